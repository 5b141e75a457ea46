"""A fake API server for each test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.retrying import Patience
from tests.kubernetes.fake.server import FakeServer


class Clock:
    """Time passes by sleeping alone, and that takes none."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kubernetes")


@pytest.fixture
async def fake(identity: Path) -> AsyncIterator[FakeServer]:
    async with FakeServer(identity) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(fake: FakeServer, clock: Clock) -> AsyncIterator[Client]:
    patience = Patience(clock=lambda: clock.now, chance=lambda: 0.5, sleep=clock.sleep)
    client = await Client.connect(fake.source, patience)
    yield client
    await client.close()
