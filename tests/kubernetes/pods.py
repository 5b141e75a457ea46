"""A cluster of one node for tests: a fake API server, a machine whose pods really run, and runtimes of its daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster_agent.runtimes.base import Worker, WorkerSpec
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.manifest import Settings
from cluster_agent.runtimes.kubernetes.runtime import KubernetesRuntime
from cluster_agent.runtimes.process.keep import Keeps
from tests.kubernetes.fake.machine import Machine
from tests.kubernetes.fake.server import FakeServer

DEADLINE = 20.0
PYTHON = "python:3.11-slim"
SCRATCH = "scratch:1"
IMAGES = {
    PYTHON: {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OF_THE_IMAGE": "x"},
    SCRATCH: {"PATH": "/nowhere"},
}


class Runtime(KubernetesRuntime):
    """A runtime whose workers are stopped before it is closed, as a daemon does with those that it has."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._started: list[Worker] = []

    async def start(self, spec: WorkerSpec) -> Worker:
        worker = await super().start(spec)
        self._started.append(worker)
        return worker

    async def close(self) -> None:
        for worker in self._started:
            await worker.stop()
        await super().close()


class Node:
    """The node, and the daemons that it has one after another."""

    def __init__(self, server: FakeServer, program: Path, directory: Path) -> None:
        self.server = server
        self.machine = Machine(server, program, dict(IMAGES))
        self.state = directory
        self.settings = Settings(
            cluster="edge1",
            node="n1",
            namespace="team",
            state=directory,
            starter_image="bdw-fed:1",
            worker_image=PYTHON,
            user=os.getuid(),
            group=os.getgid(),
        )
        self.runtimes: list[KubernetesRuntime] = []

    async def daemon(self, **changes: Any) -> KubernetesRuntime:
        """A runtime as the node's daemon has it."""
        client = await Client.connect(self.server.source)
        made = Runtime(client, self.settings, Keeps(self.state / "rows"), **changes)
        await made.open()
        self.runtimes.append(made)
        return made

    async def restart(self) -> KubernetesRuntime:
        """The daemon ends, and is started again."""
        former = self.runtimes.pop()
        former.leave()
        await former.close()
        return await self.daemon()

    @property
    def names(self) -> list[str]:
        """The pods that there are."""
        return [pod["metadata"]["name"] for pod in self.machine.pods]

    @property
    def directories(self) -> list[str]:
        """What lies on the node for pods."""
        return sorted(path.name for path in (self.state / "workers").iterdir())

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for a change of the cluster after which this is so."""
        async with asyncio.timeout(DEADLINE):
            while not true():
                changed = asyncio.Event()

                def told(_: object, changed: asyncio.Event = changed) -> None:
                    changed.set()

                self.server.store.listeners.add(told)
                try:
                    with contextlib.suppress(TimeoutError):  # of files nobody tells
                        async with asyncio.timeout(0.02):
                            await changed.wait()
                finally:
                    self.server.store.listeners.discard(told)

    async def close(self) -> None:
        for runtime in self.runtimes:
            runtime.leave()
            await runtime.close()
        await self.machine.close()
        shutil.rmtree(self.state, ignore_errors=True)
