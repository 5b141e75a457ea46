"""The hub, etcd and members of a federation for the tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.fixtures.etcd import EtcdServer, own_server
from tests.hub.hub import Members, RunningHub

__all__ = ["own_server"]


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """One authority for all tests."""
    yield Members.create(tmp_path_factory.mktemp("members"))


@pytest.fixture
async def hub(own_server: EtcdServer, members: Members, tmp_path: Path) -> AsyncIterator[RunningHub]:
    """A hub with an etcd of its own."""
    async with RunningHub(members, own_server.etcd.config.endpoint, own_server.tls, tmp_path / "hub", 0.2) as running:
        yield running


@pytest.fixture
async def person(hub: RunningHub) -> AsyncIterator[ControlPlaneServiceStub]:
    """A user's way to the hub."""
    async with hub.person() as stub:
        yield stub
