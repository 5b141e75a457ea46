"""An edge that is cut off goes on with its peers for the grace of its certificate, and no longer; nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography.x509 import load_pem_x509_certificate
from structlog.testing import capture_logs

from bdw_fed.v1.peer_pb2 import ExchangeRequest
from bdw_fed.v1.peer_pb2_grpc import PeerServiceStub
from cluster_agent.membership.renewal import Renewal
from tests.agent.agents import Agent, running
from tests.agent.federation import FakeHub, Members, served_hub, until
from tests.agent.test_peers import NOWHERE, dial, message
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials

LIFE, GRACE = 1.0, 6.0


@asynccontextmanager
async def renewing(agent: Agent, credentials: Credentials) -> AsyncIterator[None]:
    """As the whole agent does it."""
    renewal = Renewal(credentials, agent.link.calls.certify)
    agent.link.told_renewal = renewal.told
    working = asyncio.create_task(renewal.run())
    yield
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def refused(address: str, server: str, shown: Credentials) -> bool:
    """Whether no stream can be opened, since one of the two certificates is not good."""
    options = channel_options(Identity(Role.AGENT, server))
    async with grpc.aio.secure_channel(address, grpc_channel_credentials(shown), options=options) as channel:
        call = PeerServiceStub(channel).Exchange()
        try:
            await call.write(ExchangeRequest())
            await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            call.cancel()
    return False


def ends(credentials: Credentials) -> float:
    return load_pem_x509_certificate(credentials.certificate.read_bytes()).not_valid_after_utc.timestamp()


@pytest.mark.slow
async def test_an_edge_without_the_hub_is_a_peer_until_its_grace_is_over_and_again_with_a_new_certificate(
    members: Members, hub: FakeHub, tmp_path: Path
) -> None:
    hub.authority, hub.renew_after, hub.life = members.authority, LIFE * 2 / 3, timedelta(seconds=LIFE + GRACE)
    edge = members.issue(Role.AGENT, "a", days=(LIFE + GRACE) / 86400)
    peer = members.issue(Role.AGENT, "b")
    async with running(members, tmp_path / "b", "b", NOWHERE, shown=peer) as b:
        address = b.peer_door.address
        with capture_logs() as logs:
            server = served_hub(members, hub)
            await server.__aenter__()
            async with running(members, tmp_path / "a", "a", [server.address], shown=edge) as a, renewing(a, edge):
                first = ends(edge)
                await until(lambda: ends(edge) > first)  # with the hub it is renewed
                await server.__aexit__()
                await until(lambda: any("could not be renewed" in log["event"] for log in logs))
                over = ends(edge)
                await until(lambda: time.time() > over - GRACE)
                a.peers.directory(dial("b", address))  # its life is over: it connects for the first time
                a.tell_peer("b", message("within the grace"))
                await b.heard("a", [message("within the grace")])
                assert not await refused(a.peer_door.address, "a", peer)
                assert time.time() < over
                await until(lambda: time.time() > over + 1)  # certificates count in whole seconds
                assert await refused(address, "b", edge)
                assert await refused(a.peer_door.address, "a", peer)
        async with running(members, tmp_path / "a", "a", NOWHERE, shown=edge) as a:
            a.peers.directory(dial("b", address))
            a.tell_peer("b", message("after the grace"))
            await until(lambda: a.log.next_seq("peer/b") == 3)  # it is in the log
            assert not a.peers.is_direct("b")
        again = members.issue(Role.AGENT, "a")  # as it joins again
        async with running(members, tmp_path / "a", "a", NOWHERE, shown=again) as a:
            a.peers.directory(dial("b", address))
            await b.heard("a", [message("within the grace"), message("after the grace")])
