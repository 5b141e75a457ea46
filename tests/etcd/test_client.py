"""Which endpoint is called, what is tried again, and who is let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.store.etcd.client import Client, Config, Tls
from control_plane.store.etcd.errors import Unavailable, Uncertain
from control_plane.store.etcd.kv import Kv
from tests.fixtures.etcd import EtcdServer, Pki
from tests.fixtures.ports import free_port
from tests.fixtures.proxy import Proxy


async def test_an_endpoint_that_is_down_is_passed_over_for_reads_and_writes(
    etcd_server: EtcdServer, prefix: bytes
) -> None:
    down = f"127.0.0.1:{free_port()}"
    async with Client(etcd_server.config(down, etcd_server.etcd.config.endpoint)) as client:
        await Kv(client).put(prefix, b"x")
    async with Client(etcd_server.config(down, "https://" + etcd_server.etcd.config.endpoint)) as client:
        found = await Kv(client).get(prefix)
    assert found is not None
    assert found.value == b"x"


async def test_an_endpoint_that_goes_silent_is_left_for_the_next(etcd_server: EtcdServer, prefix: bytes) -> None:
    endpoint = etcd_server.etcd.config.endpoint
    async with (
        Proxy(endpoint) as proxy,
        Client(etcd_server.config(proxy.address, endpoint, timeout=0.3)) as client,
    ):
        await Kv(client).put(prefix, b"x")
        proxy.freeze()
        assert await Kv(client).get(prefix) is not None


async def test_a_call_waits_out_a_restart(own_server: EtcdServer) -> None:
    async with Client(own_server.config()) as client:
        await Kv(client).put(b"a", b"x")
        await own_server.etcd.stop()
        await own_server.etcd.start()
        await Kv(client).put(b"b", b"y")
        assert [item.key for item in (await Kv(client).list(b"")).items] == [b"a", b"b"]


async def test_a_write_whose_answer_is_lost_is_uncertain_and_not_repeated(
    etcd_server: EtcdServer, etcd: Client, prefix: bytes
) -> None:
    async with (
        Proxy(etcd_server.etcd.config.endpoint) as proxy,
        Client(etcd_server.config(proxy.address, timeout=0.3)) as client,
    ):
        await Kv(client).put(prefix, b"x")
        proxy.freeze()
        with pytest.raises(Uncertain):
            await Kv(client).put(prefix, b"y")
        proxy.thaw()
        await Kv(client).get(prefix)
    found = await Kv(etcd).get(prefix)
    assert found is not None
    assert found.version <= 2


async def test_with_no_endpoint_up_nothing_was_applied_and_the_error_says_why(etcd_server: EtcdServer) -> None:
    down = f"127.0.0.1:{free_port()}"
    async with Client(etcd_server.config(down, patience=0.2)) as client:
        with pytest.raises(Unavailable, match=rf"{down}.*refused"):
            await Kv(client).put(b"a", b"x")


async def test_who_has_no_certificate_of_the_authority_is_refused(etcd_server: EtcdServer, tmp_path: Path) -> None:
    config = etcd_server.etcd.config
    stranger = Pki.create(tmp_path / "strangers").issue("client")
    for tls in (None, Tls(config.ca), Tls(config.ca, *stranger)):
        async with Client(Config((config.endpoint,), tls, timeout=1.0, patience=0.2)) as client:
            with pytest.raises((Unavailable, Uncertain)):
                await Kv(client).get(b"a")


async def test_an_etcd_of_another_authority_is_not_believed(etcd_server: EtcdServer, tmp_path: Path) -> None:
    pki = Pki.create(tmp_path / "strangers")
    tls = Tls(pki.ca, *pki.issue("client"))
    async with Client(Config((etcd_server.etcd.config.endpoint,), tls, patience=0.2)) as client:
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await Kv(client).get(b"a")


def test_no_endpoint_at_all_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="host:port"):
        Config(())
