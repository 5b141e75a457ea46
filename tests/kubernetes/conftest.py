"""A fake API server for each test, a client of it, and a node whose pods really run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.retrying import Patience
from cluster_agent.runtimes.kubernetes.runtime import KubernetesRuntime
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.pods import Node


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


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that is put into pods."""
    if shutil.which("go") is None:
        pytest.skip("NO GO ON PATH: the starter is not built, so NOTHING THAT RUNS IN PODS IS TESTED")
    made = tmp_path_factory.mktemp("starter") / "starter"
    subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", made, "."],
        cwd=Path(__file__).parents[2] / "starter",
        env={**os.environ, "CGO_ENABLED": "0"},
        check=True,
    )
    return made


@pytest.fixture
async def node(fake: FakeServer, starter: Path) -> AsyncIterator[Node]:
    """A node whose pods really run."""
    # The path of a socket has room for little, and pytest's own directories take most of it.
    made = Node(fake, starter, Path(tempfile.mkdtemp(prefix="bdw-")))
    yield made
    await made.close()


@pytest.fixture
async def runtime(node: Node) -> KubernetesRuntime:
    """Its daemon's runtime."""
    return await node.daemon()
