"""A hub makes a relay's next certificate, as long as some topology has that relay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from cluster_agent.relay import renewing
from cluster_agent.relay.service import RelayConfig, serve
from tests.agent.federation import until, within
from tests.hub.hub import RunningHub, apply
from tests.hub.newcomer import certified
from tests.hub.objects import TOPOLOGY
from tests.relay.test_renewing import in_files, shown
from wire.identity import Credentials, Identity, Role
from wire.identity import requests as asking

RELAYED = TOPOLOGY.replace("dial: here}", "dial: none}").replace(
    "  datasets:", '  relays: [{name: r1, address: "127.0.0.1:1"}]\n  datasets:'
)


def own(hub: RunningHub, place: Path, name: str = "r1") -> Credentials:
    """A relay's first credentials."""
    return hub.members.authority.issue(Identity(Role.RELAY, name), place)


async def test_a_relay_has_its_certificate_renewed_and_shows_the_new_one(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(person, RELAYED)
    monkeypatch.setattr(renewing, "_USED", 1e-8)
    monkeypatch.setattr("cluster_agent.link.backoff.Backoff.next", lambda _: 0.01)  # the hub may not know it yet
    credentials = own(hub, tmp_path / "r1")
    first = in_files(credentials)
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    config = RelayConfig("r1", "127.0.0.1:0", credentials, hub=("127.0.0.1:1", hub.address))
    serving = asyncio.create_task(serve(config, ready.set_result, stop))
    address = (await within(ready))["relay"]
    await until(lambda: in_files(credentials) != first)
    monkeypatch.setattr(renewing, "_USED", 0.5)
    await until(lambda: not (tmp_path / "r1" / "next-key.pem").exists())
    assert await shown(address, hub.members.credentials(Role.NODE, "edge/n1")) != first
    assert asking.identity_in(credentials) == Identity(Role.RELAY, "r1")
    assert asking.seconds_valid(credentials) == hub.certificate_life + hub.certificate_grace
    stop.set()
    await within(serving)


async def test_a_relay_of_no_topology_is_not_renewed(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    await apply(person, RELAYED)
    stranger = own(hub, tmp_path / "r2", "r2")
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError, match="no topology has a relay r2") as caught:
        await certified(hub, "", asking.begin(tmp_path / "r2"), shown=stranger)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [log["reason"] for log in logs if log["event"] == "a caller was refused"] == [caught.value.details()]


async def test_a_relay_is_certified_as_itself_and_nothing_else(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    await apply(person, RELAYED)
    relay = own(hub, tmp_path / "r1")
    for node, request, words in (
        ("n1", asking.begin(tmp_path / "r1"), "a relay has no nodes"),
        ("", b"nothing", "no PKCS#10 request"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await certified(hub, "", request, node=node, shown=relay)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_while_no_hub_answers_the_certificate_of_before_is_in_use(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewing, "_USED", 1e-8)
    credentials = own(hub, tmp_path / "r1")
    first = in_files(credentials)
    with capture_logs() as logs:
        working = asyncio.create_task(renewing.renewal(credentials, ["127.0.0.1:1"]).run())
        await until(lambda: any("could not be renewed" in log["event"] for log in logs))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert in_files(credentials) == first
    assert "127.0.0.1:1: " in next(log["error"] for log in logs if "could not be renewed" in log["event"])
