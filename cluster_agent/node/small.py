"""Executes light tasks as small jobs of a worker: their bytes go from the store to the worker and back, without a file.

    Execute ─▶ inputs from the store ─▶ worker ─▶ outputs into the journal ─▶ Done
                                         │ ended one by one, told many at a time
                                         └ dead ─▶ one task charged, the others returned to the core

There is no asyncio task for a task: what happens is told by the worker's callbacks. Only what is rare has one: an
output that is large after all, which is taken out of the worker's directory, and the killing of a worker.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import cast

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.directory import Made, TaskDirectory, missing
from cluster_agent.node.execution import outcome_of, result_of
from cluster_agent.node.finishing import Done
from cluster_agent.node.logs import LogName, Logs, TaskLog
from cluster_agent.node.messages import Given, TaskKey
from cluster_agent.node.works import Assignment, file_name
from cluster_agent.orders.messages import SMALL, Output, Result, UnitInfo
from cluster_agent.runtimes.base import Outcome, SmallEnd, SmallJob, Worker
from wire.digests import bytes_digest, unit_id

_STUCK_SECONDS = 0.05  # after which those behind a task are taken back


class SmallTask(SmallJob):
    """A task with a worker. Its log is made when it writes something."""

    __slots__ = ("assignment", "given", "given_at", "log", "logs")

    def __init__(self, task: Assignment, given: Given, inputs: Sequence[bytes], logs: Logs, now: float) -> None:
        assert task.work.small is not None
        super().__init__(task.work.small, task.key.task.hex(), task.key.attempt, inputs)
        self.assignment = task
        self.given = given
        self.given_at = now
        self.logs = logs
        self.log: TaskLog | None = None

    def write(self, stream: int, data: bytes) -> None:
        if self.log is None:
            key = self.assignment.key
            name = LogName(key.namespace, key.run, self.assignment.work.step, key.task, key.attempt)
            self.log = self.logs.open(name)
        self.log.write(stream, data)

    def close(self) -> None:
        """It writes no more."""
        if self.log is not None:
            self.log.close()


class _Busy:
    """A worker with small jobs."""

    def __init__(self, number: int, worker: Worker) -> None:
        self.number = number
        self.worker = worker
        self.tasks: dict[TaskKey, SmallTask] = {}
        self.killed = False
        self.at: SmallJob | None = None  # since when, as far as we have looked
        self.since = 0.0


class SmallTasks:
    """All light tasks that are with workers.

    `handle` takes the core's events, `finish` ends of tasks, `wanted` says whether one still is, `own` runs what takes
    time, `drop` hears that a worker is not to be used any more.
    """

    def __init__(
        self,
        store: DiskStore,
        logs: Logs,
        *,
        handle: Callable[[messages.Event], None],
        finish: Callable[[list[Done]], None],
        wanted: Callable[[TaskKey], bool],
        own: Callable[[Coroutine[None, None, None]], None],
        drop: Callable[[int], Worker],
    ) -> None:
        self._store = store
        self._logs = logs
        self._handle = handle
        self._finish = finish
        self._wanted = wanted
        self._own = own
        self._drop = drop
        self._busy: dict[Worker, _Busy] = {}
        self._with: dict[TaskKey, _Busy] = {}

    # ------------------------------------------------------------------------------------------------- questions

    @property
    def any(self) -> bool:
        """Whether any task is with a worker."""
        return bool(self._with)

    def current(self, now: float) -> Iterable[TaskKey]:
        """The tasks that are being executed now; `relieve` knows since when by how often this was asked."""
        for busy in self._busy.values():
            job = busy.worker.current()
            if job is not busy.at:
                busy.at, busy.since = job, now
            if job is not None:
                yield cast(SmallTask, job).assignment.key

    # -------------------------------------------------------------------------------------------------- commands

    def execute(self, number: int, worker: Worker, tasks: Sequence[tuple[Given, Assignment]]) -> None:
        """Give these to a worker, after those that it has."""
        busy = self._busy.get(worker)
        if busy is None:
            busy = self._busy[worker] = _Busy(number, worker)
        now = time.monotonic()
        jobs = []
        broken: list[Done] = []
        heavy = []
        for given, task in tasks:
            try:
                inputs = self._inputs(task)
            except (DataError, OSError) as error:
                broken.append(Done(task, result_of(task, given, outcome_of(error), ())))
                continue
            if inputs is None:
                heavy.append(task.key)
                continue
            job = busy.tasks[task.key] = SmallTask(task, given, inputs, self._logs, now)
            self._with[task.key] = busy
            jobs.append(job)
        if jobs:
            worker.give(jobs, self)
        elif not busy.tasks:
            del self._busy[worker]
        if heavy:
            self._handle(messages.TasksReturned(number, heavy, worker.alive, heavy=True))
        if broken:
            self._handle(messages.TasksEnded(number, [done.assignment.key for done in broken], worker.alive))
            self._finish(broken)

    def abort(self, key: TaskKey) -> None:
        """A task is not wanted any more."""
        busy = self._with.get(key)
        if busy is None or busy.killed:
            return
        self._return(busy)
        if key in busy.tasks:
            busy.killed = True  # and closed in the core, so that it gets no more
            self._own(self._kill(busy, key))

    def relieve(self, now: float) -> None:
        """Learn of what ended before a task that takes long, and take back what waits behind it."""
        for busy in list(self._busy.values()):
            if len(busy.tasks) < 2 or busy.at is None or now == busy.since or busy.killed:
                continue
            busy.worker.hear()
            if len(busy.tasks) > 1 and now - busy.since > _STUCK_SECONDS:
                self._return(busy)

    def close(self) -> None:
        """Nothing is told any more."""
        for busy in self._busy.values():
            for task in busy.tasks.values():
                task.close()

    # ------------------------------------------------------------------------------------------------ the worker

    def ended(self, worker: Worker, ends: Sequence[SmallEnd]) -> None:
        """See Listener."""
        busy = self._busy.get(worker)
        if busy is None or busy.killed:
            return
        done: list[Done] = []
        keys: list[TaskKey] = []
        heavy: list[TaskKey] = []
        seconds = 0.0
        for end in ends:
            task = cast(SmallTask, end.job)
            key = task.assignment.key
            task.close()
            if end.left is not None:
                self._own(self._take_left(busy, task, end))
                continue
            self._forget(busy, key)
            if end.again:
                heavy.append(key)
                continue
            keys.append(key)
            seconds += end.seconds
            if self._wanted(key):
                done.append(Done(task.assignment, self._result(task, end)))
        self._let_go(busy)
        if heavy:
            self._handle(messages.TasksReturned(busy.number, heavy, worker.alive, heavy=True))
        if keys:
            self._handle(messages.TasksEnded(busy.number, keys, worker.alive, seconds, small=True))
            self._finish(done)

    def died(self, worker: Worker, job: SmallJob | None, outcome: Outcome, others: Sequence[SmallJob]) -> None:
        """See Listener."""
        busy = self._busy.get(worker)
        if busy is None or busy.killed:
            return
        keys = [cast(SmallTask, other).assignment.key for other in others]
        for key in keys:
            self._forget(busy, key)
        if keys:
            self._handle(messages.TasksReturned(busy.number, keys, usable=False))
        if job is None:
            self._let_go(busy)
            return
        task = cast(SmallTask, job)
        task.close()
        self._forget(busy, task.assignment.key)
        self._let_go(busy)
        self._end(busy, task.assignment, result_of(task.assignment, task.given, outcome, ()))

    # ---------------------------------------------------------------------------------------------------- inside

    def _inputs(self, task: Assignment) -> list[bytes] | None:
        """The bytes of the inputs; None if one has a file of its own all the same. DataError, OSError."""
        namespace, run, _, _ = task.key
        inputs = []
        for port, (unit,) in zip(task.work.inputs, task.order.inputs, strict=True):
            content: Content = self._store.find(UnitKey(namespace, run, unit.id))
            if unit.digest and unit.digest != content.digest:
                raise DataError(f"unit {unit.id.hex()} on input {port.name} has other bytes here than it should have")
            if content.data is None:
                return None
            inputs.append(content.data)
        return inputs

    def _result(self, task: SmallTask, end: SmallEnd) -> Result:
        """What a task's end is told as; its outputs are in the store then."""
        assignment = task.assignment
        waited = max(0.0, time.monotonic() - task.given_at - end.seconds)
        given = task.given._replace(queued_seconds=task.given.queued_seconds + waited)
        if end.failure is not None:
            return result_of(assignment, given, end.failure, ())
        outcome = Outcome(seconds=end.seconds, peak_memory=end.peak_memory)
        outputs = []
        try:
            for port, (_, name), data in zip(assignment.work.outputs, task.work.outputs, end.outputs, strict=True):
                if data is not None:
                    outputs.append(self._put(assignment.key, port.name, name, data))
                elif not port.optional:
                    raise missing(port.name, name)
        except (DataError, OSError) as error:
            outcome = outcome_of(error)
        return result_of(assignment, given, outcome, outputs)

    def _put(self, key: TaskKey, port: str, name: str, data: bytes) -> Output:
        unit = unit_id(key.task, port, 0)
        digest = bytes_digest(data)
        self._store.put(UnitKey(key.namespace, key.run, unit), data, digest)
        return Output(port, 0, UnitInfo(unit, digest, len(data), name=name))

    async def _take_left(self, busy: _Busy, task: SmallTask, end: SmallEnd) -> None:
        """Take outputs out of the worker's directory, and let it go on."""
        assert end.left is not None
        key, work, _ = task.assignment
        outcome = Outcome(seconds=end.seconds, peak_memory=end.peak_memory)
        outputs: list[Output] = []
        names = {port.name: end.left / "out" / file_name(port.name, port.format) for port in work.outputs}
        directory = TaskDirectory(end.left, outputs=names)
        try:
            for port, data in zip(work.outputs, end.outputs, strict=True):
                if data is not None:
                    outputs.append(self._put(key, port.name, names[port.name].name, data))
                    continue
                for made in directory.made([port]):
                    outputs.append(await self._move(key, made))
        except (DataError, OSError) as error:
            outcome = outcome_of(error)
        if busy.killed or key not in busy.tasks:
            return
        self._forget(busy, key)
        busy.worker.go_on()
        self._let_go(busy)
        result = result_of(task.assignment, task.given, outcome, outputs)
        self._end(busy, task.assignment, result, end.seconds)

    async def _move(self, key: TaskKey, made: Made) -> Output:
        """Bring a file from the worker's directory, which is in memory, into the store."""
        unit = unit_id(key.task, made.port, made.index)
        path = made.path
        size = path.stat().st_size
        if size > SMALL:
            self._store.check_space(size)
            path = self._store.partial / f"{unit.hex()}.{key.attempt}"
            try:
                await asyncio.to_thread(shutil.copyfile, made.path, path)
            except OSError:
                path.unlink(missing_ok=True)
                raise
        content = await self._store.commit(path, UnitKey(key.namespace, key.run, unit))
        return Output(made.port, made.index, UnitInfo(unit, content.digest, content.size, name=made.name))

    async def _kill(self, busy: _Busy, key: TaskKey) -> None:
        """Kill a worker for the sake of the task that it is at."""
        await self._drop(busy.number).stop()
        self._busy.pop(busy.worker, None)
        others = [other for other in busy.tasks if other != key]
        for known, task in busy.tasks.items():
            task.close()
            del self._with[known]
        if others:
            self._handle(messages.TasksReturned(busy.number, others, usable=False))
        self._handle(messages.TasksEnded(busy.number, [key], usable=False))

    def _return(self, busy: _Busy) -> None:
        """Take back what the worker has not begun."""
        keys = [cast(SmallTask, job).assignment.key for job in busy.worker.take_back()]
        for key in keys:
            self._forget(busy, key)
        self._handle(messages.TasksReturned(busy.number, keys))
        self._let_go(busy)

    def _end(self, busy: _Busy, task: Assignment, result: Result, seconds: float = 0.0) -> None:
        wanted = self._wanted(task.key)
        self._handle(messages.TasksEnded(busy.number, [task.key], busy.worker.alive, seconds))
        if wanted:
            self._finish([Done(task, result)])

    def _forget(self, busy: _Busy, key: TaskKey) -> None:
        del busy.tasks[key]
        del self._with[key]

    def _let_go(self, busy: _Busy) -> None:
        """A worker without tasks is no business of ours; one that is not to be used again is dropped."""
        if busy.tasks:
            return
        self._busy.pop(busy.worker, None)
        if not busy.worker.alive:
            self._own(self._drop(busy.number).stop())
