"""The tasks that are executed one by one, each in a directory of its own: those that run now.

Execute ─▶ Execution, an asyncio task ─▶ TasksEnded to the core ─▶ its result, if it is wanted still
Abort   ─▶ cancelled: the task and its processes are gone when it ends
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.core import NodeCore
from cluster_agent.node.directory import Directories
from cluster_agent.node.execution import Execution, Surroundings, result_of
from cluster_agent.node.finishing import Finishing
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given, TaskKey
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.windows import Windows
from cluster_agent.node.workers import Own, Workers
from cluster_agent.node.works import Assignment, Done
from cluster_agent.orders.messages import SMALL, Output, Result
from cluster_agent.runtimes.base import Outcome

_log = structlog.get_logger(__name__)


class Executions:
    """All executions, in `directories` but where a worker has its own. `handle` takes the core's events, `own` the
    executions, `finishing` their ends; of units that are made before the end the outbox tells."""

    def __init__(
        self,
        core: NodeCore,
        workers: Workers,
        finishing: Finishing,
        outbox: Outbox,
        store: DiskStore,
        logs: Logs,
        directories: Directories,
        handle: Callable[[messages.Event], None],
        own: Own,
    ) -> None:
        self._core = core
        self._workers = workers
        self._finishing = finishing
        self._outbox = outbox
        self._handle = handle
        self._own = own
        self._splitters = ThreadPoolExecutor(max_workers=2, thread_name_prefix="split")
        self._directories = directories
        self._around = Surroundings(directories, store, logs, self._splitters)
        self._running: dict[TaskKey, tuple[Execution, asyncio.Task[None]]] = {}

    @property
    def windows(self) -> Windows:
        """How far splits may run ahead."""
        return self._around.windows

    def keys(self) -> list[TaskKey]:
        """The tasks that are being executed."""
        return list(self._running)

    def begin(self, assignment: Assignment, given: Given, number: int | None) -> None:
        """Execute a task in this worker, which has no other; None: it is built in."""
        worker = self._workers[number] if number is not None else None
        directories = self._workers.directories(number) if number is not None else None

        def tell(outputs: list[Output]) -> None:
            self._outbox.produced(given.key, outputs)

        execution = Execution(assignment, given, self._around, worker, tell, directories)
        self._running[given.key] = (execution, self._own(self._run(execution, number)))

    def abort(self, key: TaskKey) -> bool:
        """Kill a task; False if it is not among these."""
        if key not in self._running:
            return False
        self._running[key][1].cancel()
        return True

    def tell_again(self) -> None:
        """Tell what tasks have made that run still."""
        for key, (execution, _) in self._running.items():
            if self._core.wants(key) and execution.units:
                self._outbox.produced(key, execution.units)

    def of(self, namespace: str, run: str) -> list[asyncio.Task[None]]:
        """Those of a run, to be awaited."""
        return [task for key, (_, task) in self._running.items() if key[:2] == (namespace, run)]

    def end_run(self, run: str) -> None:
        """No task of the run has a directory any more."""
        self._directories.end_run(run)
        self._workers.end_run(run)

    async def close(self) -> None:
        """Finish deleting, when nothing is executed any more."""
        await self._directories.close()
        self._splitters.shutdown()

    async def _run(self, execution: Execution, number: int | None) -> None:
        task = execution.assignment
        result: Result | None = None
        try:
            result = await execution.run()
        except asyncio.CancelledError:
            pass  # not wanted any more: the task and its processes are gone
        except Exception as error:
            _log.exception("an execution broke", step=task.work.step)
            outcome = Outcome("internal", f"{type(error).__name__}: {error}")
            result = result_of(task, Given(task.key, 0.0, 0.0), outcome, ())
        self._end(execution, number, result)

    def _end(self, execution: Execution, number: int | None, result: Result | None) -> None:
        key, worker = execution.assignment.key, execution.worker
        del self._running[key]
        usable = worker is not None and worker.alive
        if number is not None and not usable:
            self._workers.stop(number)
        wanted = self._core.wants(key)
        seconds, small = 0.0, False
        if result is not None and result.failure is None:
            seconds, small = result.seconds, _all_small(result)
        self._handle(messages.TasksEnded(number, (key,), usable, seconds, small))
        if result is not None and wanted:
            self._finishing.done([Done(execution.assignment, result)])


def _all_small(result: Result) -> bool:
    """Whether the task could have been executed as a small job: one small unit at most on each port."""
    return all(output.index == 0 and output.unit.size <= SMALL for output in result.outputs)
