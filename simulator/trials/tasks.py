"""A node's tasks as production has them, apart from what executes them: workers are played.

    commands ─▶ Tasks ─▶ NodeCore ─ Execute ─▶ a timer, as long as a task takes ─▶ Finishing ─▶ Journal, Outbox

A worker takes as long as it is told and makes units whose content follows from their id. It may die over a task.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.core import NodeCore
from cluster_agent.node.directory import Directories
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given, TaskKey
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.tasks import Tasks
from cluster_agent.node.works import Assignment, Done
from cluster_agent.orders.messages import Failure, Output, Result, UnitInfo
from cluster_agent.runtimes.base import Runtime, WorkerSpec
from simulator.trials.bulk import UNIT_BYTES
from simulator.trials.disk import Journal
from simulator.trials.loop import Process
from wire.digests import bytes_digest, unit_id

_LOOK_SECONDS = 0.2  # a split that waits looks whether there is room


@dataclass
class Pace:
    """How a node works, whichever daemon it has: seconds of a task by step, and how often a worker dies over one."""

    seconds: Callable[[str, bytes], float]
    slow: float = 1.0
    dies: Callable[[bytes, int], bool] = lambda _task, _attempt: False
    start_seconds: float = 0.05
    made_of: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)  # unit -> those of sources and splits in it


@dataclass(eq=False)
class _Worker:
    """A worker and what it was given, of which it is at the first."""

    gone: asyncio.Event = field(default_factory=asyncio.Event)
    root: Path | None = None
    alive: bool = True
    tasks: deque[Given] = field(default_factory=deque)
    small: bool = False
    timer: asyncio.TimerHandle | None = None

    async def stop(self) -> None:
        """It is dead at once."""
        self.alive = False
        if self.timer is not None:
            self.timer.cancel()


class _PlayedRuntime:
    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    async def start(self, _: WorkerSpec) -> _Worker:
        await asyncio.sleep(self._pace.start_seconds)
        return _Worker()


class _NoDirectories:
    """No task of a trial has one."""

    def end_run(self, _run: str) -> None:
        pass


class PlayedTasks(Tasks):
    """See the module. All that is done for a process ends with it."""

    def __init__(
        self, core: NodeCore, journal: Journal, outbox: Outbox, pace: Pace, process: Process, nudge: Callable[[], None]
    ) -> None:
        self._process = process
        self._journal = journal
        self._pace = pace
        self._splits: dict[TaskKey, asyncio.TimerHandle] = {}
        self._cut: dict[TaskKey, int] = {}  # of splits that wait in the middle: their units so far
        super().__init__(
            core,
            cast(Runtime, _PlayedRuntime(pace)),
            cast(Bundles, None),
            cast(DiskStore, journal),
            cast(Logs, None),
            outbox,
            directories=cast(Directories, _NoDirectories()),
            nudge=nudge,
        )
        process.at_kill.append(self._killed)

    def _killed(self) -> None:
        self._closing = True

    def _do(self, action: messages.Action) -> None:
        if isinstance(action, messages.Abort):
            self._abort(action.key)
        else:
            super()._do(action)

    def _execute(self, action: messages.Execute) -> None:
        if action.worker is None:
            (given,) = action.tasks
            self._splits[given.key] = self._later(self._seconds(given.key), self._split, given.key)
            return
        worker = self._played(action.worker)
        worker.small = action.small
        worker.tasks.extend(action.tasks)
        self._go_on(action.worker, worker)

    def _played(self, number: int) -> _Worker:
        return cast(_Worker, self._workers[number])

    def _go_on(self, number: int, worker: _Worker) -> None:
        if worker.timer is None and worker.tasks:
            key = worker.tasks[0].key
            worker.timer = self._later(self._seconds(key), self._over, number, worker)

    def _over(self, number: int, worker: _Worker) -> None:
        """A worker is through with the first of its tasks; or dies over it, and the others go elsewhere."""
        worker.timer = None
        given = worker.tasks.popleft()
        task = self._assignments[given.key]
        if self._pace.dies(given.key.task, given.key.attempt):
            self._lose(number, worker)
            failed = Result(given.key.task, given.key.attempt, failure=Failure("lost", "its worker died"))
            self._told(number, task, failed, usable=False)
            return
        self._go_on(number, worker)
        if (unread := self._without_input(task)) is not None:
            self._told(number, task, unread)
            return
        made = self._made(task)
        if not self._enter(task, made):
            self._told(number, task, _no_room(given.key))
            return
        result = Result(
            given.key.task,
            given.key.attempt,
            made,
            seconds=self._seconds(given.key),
            queued=given.queued_seconds,
            starting=given.start_seconds,
            bytes_in=task.bytes_in,
            bytes_out=UNIT_BYTES,
        )
        self._told(number, task, result, small=worker.small)

    def _lose(self, number: int, worker: _Worker) -> None:
        self._own(self._drop(number).stop())
        if waiting := [given.key for given in worker.tasks]:
            worker.tasks.clear()
            self._handle(messages.TasksReturned(number, waiting))

    def _abort(self, key: TaskKey) -> None:
        """What is being done is killed with its worker, what waits behind it is returned."""
        if (timer := self._splits.pop(key, None)) is not None:
            timer.cancel()
            self._cut.pop(key, None)
            self._handle(messages.TasksEnded(None, (key,)))
            return
        for number in self._workers:
            worker = self._played(number)
            position = next((at for at, given in enumerate(worker.tasks) if given.key == key), None)
            if position is None:
                continue
            del worker.tasks[position]
            if position:
                self._handle(messages.TasksReturned(number, (key,)))
                return
            assert worker.timer is not None
            worker.timer.cancel()
            self._lose(number, worker)
            self._handle(messages.TasksEnded(number, (key,), usable=False))
            return

    def _split(self, key: TaskKey) -> None:
        """A built-in task: some of its units are told while it runs. It waits in the middle while its disk is short."""
        del self._splits[key]
        task = self._assignments[key]
        if (failed := self._without_input(task)) is not None:
            self._told(None, task, failed)
            return
        units = self._made(task)
        first = at = self._cut.pop(key, 0)
        while at < len(units) and self._journal.free_bytes >= task.order.leave:
            if not self._enter(task, units[at : at + 1]):
                self._told(None, task, _no_room(key))
                return
            at += 1
        waits = at < len(units)
        if new := units[first : at if waits else max(first, len(units) // 2)]:
            with contextlib.suppress(OSError):
                self._journal.flush()
                self._outbox.produced(key, new)
        if waits:
            self._cut[key] = at
            self._splits[key] = self._later(_LOOK_SECONDS, self._split, key)
            return
        self._told(None, task, Result(key.task, key.attempt, units, bytes_in=task.bytes_in))

    def _told(
        self, number: int | None, task: Assignment, result: Result, *, usable: bool = True, small: bool = False
    ) -> None:
        wanted = self._is_wanted(task.key)
        self._handle(messages.TasksEnded(number, (task.key,), usable, result.seconds, small))
        if wanted:
            self._finishing.done([Done(task, result)])

    def _without_input(self, task: Assignment) -> Result | None:
        """A failure where an input is rotten, or was and is not here any more."""
        run = (task.key.namespace, task.key.run)
        if all(self._journal.read((*run, unit.id)) for units in task.order.inputs for unit in units):
            return None
        return Result(task.key.task, task.key.attempt, failure=Failure("data", "an input has not its bytes"))

    def _made(self, task: Assignment) -> tuple[Output, ...]:
        execution = task.work.execution
        cuts = execution.HasField("split")
        count = (task.order.parts or execution.split.split.count or 1) if cuts else 1
        inputs = [unit.id for units in task.order.inputs for unit in units]
        within = sorted(each for unit in inputs for each in self._pace.made_of.get(unit, (unit,)))
        made = []
        for port in task.work.outputs:
            for index in range(count):
                identifier = unit_id(task.key.task, port.name, index)
                if not cuts:
                    self._pace.made_of[identifier] = tuple(within)
                digest = bytes_digest(identifier)
                unit = UnitInfo(identifier, digest, UNIT_BYTES, task=task.key.task, name="unit")
                made.append(Output(port.name, index, unit))
        return tuple(made)

    def _enter(self, task: Assignment, made: Sequence[Output]) -> bool:
        """Put units into the store, if they fit."""
        units = [((task.key.namespace, task.key.run, output.unit.id), output.unit) for output in made]
        if not self._journal.has_room((key, unit.size) for key, unit in units):
            return False
        for key, unit in units:
            self._journal.put(key, unit.digest, unit.size)
        return True

    def _seconds(self, key: TaskKey) -> float:
        return self._pace.seconds(self._assignments[key].work.step, key.task) * self._pace.slow

    def _later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        def due() -> None:
            if self._process.alive:
                call(*arguments)

        return asyncio.get_running_loop().call_later(max(0.0, seconds), due)


def _no_room(key: TaskKey) -> Result:
    return Result(key.task, key.attempt, failure=Failure("full", "what it made does not fit on the disk"))
