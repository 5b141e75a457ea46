"""The hub, etcd and members of a federation for the tests here.

A module whose tests break etcd gives `empty_server` another meaning: one of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.fixtures.etcd import EtcdServer, empty_server, own_server
from tests.hub.hub import Members, RunningHub

__all__ = ["empty_server", "own_server"]


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """One authority for all tests."""
    yield Members.create(tmp_path_factory.mktemp("members"))


@pytest.fixture
async def hub(empty_server: EtcdServer, members: Members, tmp_path: Path) -> AsyncIterator[RunningHub]:
    """A hub that has etcd for itself."""
    endpoint, tls = empty_server.etcd.config.endpoint, empty_server.tls
    async with RunningHub(members, endpoint, tls, tmp_path / "hub", 0.2) as running:
        yield running


@pytest.fixture
async def person(hub: RunningHub) -> AsyncIterator[ControlPlaneServiceStub]:
    """A user's way to the hub."""
    async with hub.person() as stub:
        yield stub
