"""The workers of a node, from their start to their stop: what the core says of them is done by the runtime.

    StartWorker ─▶ its bundle ─▶ runtime ─▶ WorkerReady ─▶ executions, small tasks ─▶ stopped
                         └─────────┴▶ WorkerFailed    └ dies when it is idle ─▶ WorkerGone

One that has died over a task is not stopped here by itself: whoever has given it the task says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from bdw_fed.v1 import model_pb2
from cluster_agent.node import messages
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.core import NodeCore
from cluster_agent.node.directory import Directories
from cluster_agent.node.messages import PoolSpec
from cluster_agent.node.recipe import worker_spec
from cluster_agent.runtimes.base import Runtime, Worker
from cluster_agent.runtimes.errors import StartError

Own = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
_log = structlog.get_logger(__name__)


@dataclass
class _Recipe:
    """What the workers of a pool are made of; `namespace` is where its bundle was asked for."""

    spec: PoolSpec
    execution: model_pb2.Execution
    disk: int
    namespace: str


class Workers:
    """All workers. `handle` takes the core's events, `own` what takes time."""

    def __init__(
        self, core: NodeCore, runtime: Runtime, bundles: Bundles, handle: Callable[[messages.Event], None], own: Own
    ) -> None:
        self._core = core
        self._runtime = runtime
        self._bundles = bundles
        self._handle = handle
        self._own = own
        self._recipes: dict[str, _Recipe] = {}  # by pool
        self._workers: dict[int, Worker] = {}
        self._watches: dict[int, asyncio.Task[None]] = {}  # for one that dies when idle
        self._directories: dict[int, Directories] = {}  # of those that see no others

    # ------------------------------------------------------------------------------------------------- questions

    def __getitem__(self, number: int) -> Worker:
        return self._workers[number]

    def numbers(self) -> list[int]:
        """Of those that are there."""
        return list(self._workers)

    def directories(self, number: int) -> Directories | None:
        """Where the tasks of a worker have their directories; None: where all have them."""
        return self._directories.get(number)

    def pools(self) -> list[str]:
        """All pools whose workers can be made."""
        return list(self._recipes)

    def definition(self, pool: str) -> str:
        """The step version of a pool."""
        return self._recipes[pool].spec.definition

    def bundles_in_use(self) -> set[bytes]:
        """The digests of the bundles that workers were started with, or are."""
        used = {made_of.execution.bundle for pool, made_of in self._recipes.items() if any(self._core.counts(pool))}
        return used | {bytes.fromhex(directory.name) for directory in self._runtime.bundles()}

    # -------------------------------------------------------------------------------------------------- commands

    def learn(
        self, spec: PoolSpec, execution: model_pb2.Execution, resources: model_pb2.Resources, namespace: str = ""
    ) -> None:
        """What the workers of a pool are made of."""
        known = self._recipes.get(spec.key)
        if known is None or (namespace and not known.namespace):
            self._recipes[spec.key] = _Recipe(spec, execution, resources.disk, namespace)

    def start(self, number: int, pool: PoolSpec) -> None:
        """Start a worker; the core hears what came of it."""
        self._own(self._start(number, pool))

    def stop(self, number: int) -> None:
        """Stop a worker, which is not to be used from now on."""
        self._own(self.drop(number).stop())

    def drop(self, number: int) -> Worker:
        """A worker is not to be used any more, and whoever asks stops it."""
        self._watches.pop(number).cancel()
        self._directories.pop(number, None)
        return self._workers.pop(number)

    def end_run(self, run: str) -> None:
        """No task of the run has a directory any more."""
        for directories in self._directories.values():
            directories.end_run(run)

    async def stop_all(self) -> None:
        """Stop all that are there, when none is being started any more."""
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()), return_exceptions=True)

    async def close(self) -> None:
        """End the runtime."""
        await self._runtime.close()
        for directories in self._directories.values():
            await directories.close()

    # ---------------------------------------------------------------------------------------------------- inside

    async def _start(self, number: int, pool: PoolSpec) -> None:
        made_of = self._recipes[pool.key]
        digest = made_of.execution.bundle
        began = time.monotonic()
        try:
            bundle = await self._bundles.get(made_of.namespace, digest) if digest else None
            started = await self._runtime.start(worker_spec(pool, made_of.execution, made_of.disk, bundle))
            await self._settle(number, started)
        except StartError as error:
            say = _log.info if error.no_room else _log.warning
            say("a worker could not start", step=pool.definition, error=str(error))
            self._handle(messages.WorkerFailed(number, f"{error}\0{error.detail}", error.no_room, error.final))
            return
        except OSError as error:
            self._handle(messages.WorkerFailed(number, f"a worker could not start: {error}\0"))
            return
        self._workers[number] = started
        self._watches[number] = self._own(self._watch(number, started))
        self._handle(messages.WorkerReady(number, time.monotonic() - began))

    async def _settle(self, number: int, started: Worker) -> None:
        """Have a place for its tasks' directories, if it sees no others. OSError, and it is stopped."""
        if started.root is None:
            return
        try:
            self._directories[number] = Directories(started.root)
        except OSError:
            await started.stop()
            raise

    async def _watch(self, number: int, watched: Worker) -> None:
        await watched.gone.wait()
        if self._core.is_idle(number):
            self.stop(number)
            self._handle(messages.WorkerGone(number))
