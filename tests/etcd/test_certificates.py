"""The certificates of an etcd that a hub brings itself: renewed while all run, by the hub, with nobody to ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificate

from control_plane.membership.keeping import Keeping
from control_plane.store.etcd.client import Client, Config, Tls
from control_plane.store.etcd.embedded import Etcd, EtcdConfig
from control_plane.store.etcd.kv import Kv
from tests.fixtures.ports import free_port
from wire.identity import Credentials, Identity, Role
from wire.identity.authority import Authority
from wire.identity.kept import Kept

LIFE = 2.0  # seconds; certificates count whole ones


@asynccontextmanager
async def kept_fresh(*kept: Kept) -> AsyncIterator[None]:
    keeping = Keeping(kept)
    keeping.see_to_all()
    task = asyncio.create_task(keeping.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ends(credentials: Credentials) -> datetime:
    return load_pem_x509_certificate(credentials.certificate.read_bytes()).not_valid_after_utc


async def until_after(moment: datetime) -> None:
    """A certificate's end is on the wall clock; nobody tells of it."""
    while (left := (moment - datetime.now(UTC)).total_seconds()) >= 0:  # noqa: ASYNC110
        await asyncio.sleep(left + 0.001)


async def test_a_hub_and_its_etcd_outlive_the_certificates_that_they_began_with(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    server, client = Credentials.at(tmp_path / "server"), Credentials.at(tmp_path / "client")
    kept = (
        Kept(authority, Identity(Role.ETCD, "etcd"), tmp_path / "server", life=LIFE),
        Kept(authority, Identity(Role.HUB, "hub"), tmp_path / "client", life=LIFE),
    )
    async with kept_fresh(*kept):
        config = EtcdConfig(
            tmp_path / "state", free_port(), server.certificate, server.key, server.ca, durability="process"
        )
        tls = Tls(client.ca, client.certificate, client.key)
        async with Etcd(config) as etcd, Client(Config((config.endpoint,), tls)) as connected:
            await Kv(connected).put(b"a", b"x")
            await until_after(max(ends(server), ends(client)))  # of both that etcd and the channel began with
            async with Client(Config((config.endpoint,), tls)) as another:  # etcd shows its next one
                assert await Kv(another).get(b"a") is not None
            await etcd.stop()  # all connections break
            await etcd.start()
            assert await Kv(connected).get(b"a") is not None  # the channel of before shows the next one
