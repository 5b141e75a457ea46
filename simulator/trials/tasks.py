"""A node's tasks as production has them, apart from what executes them: workers are played.

    commands ─▶ Tasks ─▶ NodeCore ─ Execute ─▶ a timer, as long as a task takes ─▶ Finishing ─▶ Journal, Outbox

A worker takes as long as it is told and makes units whose content follows from their id. It may die over a task.
Splits keep to the windows that production has of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.core import NodeCore
from cluster_agent.node.directory import Directories
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given, TaskKey
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.tasks import Tasks
from cluster_agent.node.windows import Window
from cluster_agent.node.works import Assignment, Done
from cluster_agent.orders.messages import Failure, Output, Result
from cluster_agent.runtimes.base import Runtime, WorkerSpec
from simulator.trials.bulk import UNIT_BYTES
from simulator.trials.disk import Journal
from simulator.trials.loop import Process
from simulator.trials.pace import Pace, made

_LOOK_SECONDS = 0.2  # a split that waits looks whether there is room


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


@dataclass(eq=False)
class _Split:
    """A built-in task: what it waits for, how many of its units are in the store, and its window, if it is a split."""

    waiting: asyncio.TimerHandle | asyncio.Task[None]
    window: Window | None
    shut: contextlib.ExitStack
    made: int = 0

    def end(self) -> None:
        """It is over, or given up."""
        self.waiting.cancel()
        self.shut.close()


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
        self._splits: dict[TaskKey, _Split] = {}
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
        for split in self._splits.values():
            split.end()

    def begin(self) -> None:
        """See Tasks. What splits in the middle have made is told again."""
        super().begin()
        for key, split in self._splits.items():
            if split.made and self._core.wants(key):
                self._outbox.produced(key, made(self._assignments[key], self._pace)[: split.made])

    def _do(self, action: messages.Action) -> None:
        if isinstance(action, messages.Abort):
            self._abort(action.key)
        else:
            super()._do(action)

    def _execute(self, action: messages.Execute) -> None:
        if action.worker is None:
            (given,) = action.tasks
            self._begin_split(given.key)
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
        outputs = made(task, self._pace)
        if not self._enter(task, outputs):
            self._told(number, task, _no_room(given.key))
            return
        result = Result(
            given.key.task,
            given.key.attempt,
            outputs,
            seconds=self._seconds(given.key),
            queued=given.queued_seconds,
            starting=given.start_seconds,
            bytes_in=task.bytes_in,
            bytes_out=UNIT_BYTES,
        )
        self._told(number, task, result, small=worker.small)

    def _lose(self, number: int, worker: _Worker) -> None:
        self._workers.stop(number)
        if waiting := [given.key for given in worker.tasks]:
            worker.tasks.clear()
            self._handle(messages.TasksReturned(number, waiting))

    def _abort(self, key: TaskKey) -> None:
        """What is being done is killed with its worker, what waits behind it is returned."""
        if (split := self._splits.pop(key, None)) is not None:
            split.end()
            self._handle(messages.TasksEnded(None, (key,)))
            return
        for number in self._workers.numbers():
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

    def _begin_split(self, key: TaskKey) -> None:
        task = self._assignments[key]
        shut = contextlib.ExitStack()
        window = None
        if task.work.execution.HasField("split"):
            opened = self.windows.opened(key, task.order.most, cast(DiskStore, self._journal))
            window = shut.enter_context(opened)
        self._splits[key] = _Split(self._later(self._seconds(key), self._split, key), window, shut)

    def _split(self, key: TaskKey) -> None:
        """A built-in task: some of its units are told while it runs. It waits in the middle while its disk is short, or
        its window is full."""
        split, task = self._splits[key], self._assignments[key]
        if (failed := self._without_input(task)) is not None:
            self._end_split(task, failed)
            return
        units = made(task, self._pace)
        first = split.made
        while split.made < len(units) and self._has_place(task, split):
            output = units[split.made]
            if not self._enter(task, (output,)):
                self._end_split(task, _no_room(key))
                return
            if split.window is not None:
                split.window.entered(UnitKey(key.namespace, key.run, output.unit.id), UNIT_BYTES)
            split.made += 1
        waits = split.made < len(units)
        if new := units[first : split.made if waits else max(first, len(units) // 2)]:
            try:
                self._journal.flush()
            except OSError:
                if waits:  # nobody will read what was not told, and make room by that
                    self._end_split(task, _no_room(key))
                    return
            else:
                self._outbox.produced(key, new)
        if not waits:
            self._end_split(task, Result(key.task, key.attempt, units, bytes_in=task.bytes_in))
        elif split.window is not None and not split.window.takes(UNIT_BYTES):
            split.waiting = asyncio.get_running_loop().create_task(self._goes_on(key, split.window))
        else:
            split.waiting = self._later(_LOOK_SECONDS, self._split, key)

    def _has_place(self, task: Assignment, split: _Split) -> bool:
        """Whether another part may enter the store."""
        if self._journal.free_bytes < task.order.leave:
            return False
        return split.window is None or split.window.takes(UNIT_BYTES)

    async def _goes_on(self, key: TaskKey, window: Window) -> None:
        await window.wait_for(UNIT_BYTES)
        if self._process.alive:
            self._split(key)

    def _end_split(self, task: Assignment, result: Result) -> None:
        self._splits.pop(task.key).shut.close()
        self._told(None, task, result)

    def _told(
        self, number: int | None, task: Assignment, result: Result, *, usable: bool = True, small: bool = False
    ) -> None:
        wanted = self._core.wants(task.key)
        self._handle(messages.TasksEnded(number, (task.key,), usable, result.seconds, small))
        if wanted:
            self._finishing.done([Done(task, result)])

    def _without_input(self, task: Assignment) -> Result | None:
        """A failure where an input is rotten, or was and is not here any more."""
        run = (task.key.namespace, task.key.run)
        if all(self._journal.read((*run, unit.id)) for units in task.order.inputs for unit in units):
            return None
        return Result(task.key.task, task.key.attempt, failure=Failure("data", "an input has not its bytes"))

    def _enter(self, task: Assignment, outputs: Sequence[Output]) -> bool:
        """Put units into the store, if they fit."""
        units = [((task.key.namespace, task.key.run, output.unit.id), output.unit) for output in outputs]
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
