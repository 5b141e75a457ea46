"""Executes light tasks as small jobs of a worker: their bytes go from the store to the worker and back, without a file.

    Execute ─▶ inputs from the store ─▶ worker ─▶ outputs into the journal ─▶ Done
                                         │ ended one by one, told many at a time
                                         └ dead ─▶ one task charged, the others returned to the core

A single task may be the first of a row (see `rows`). Of a row the core knows one task, that which the worker was at
when we heard of it last; the others are *ahead*: the core hears of them when they have ended, or have to wait.

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
from cluster_agent.node import messages, rows
from cluster_agent.node.busy import Busy, SmallTask, Told
from cluster_agent.node.directory import Made, TaskDirectory, missing
from cluster_agent.node.execution import outcome_of, result_of
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given, TaskKey
from cluster_agent.node.works import Assignment, Done, file_name, follower
from cluster_agent.orders.messages import SMALL, Output, Result, UnitInfo
from cluster_agent.runtimes.base import Outcome, Row, SmallEnd, SmallJob, Worker
from wire.digests import bytes_digest, unit_id

_STUCK_SECONDS = 0.05  # after which those behind a task are taken back


class SmallTasks:
    """All light tasks that are with workers.

    `handle` takes the core's events, `finish` ends of tasks, `wanted` says whether one still is, `known` whether one
    was ever heard of, `adopt` hears of one that nobody ordered, `settled` says whether all results are as safe as they
    have to be, `own` runs what takes time, `drop` hears that a worker is not to be used any more.
    """

    def __init__(
        self,
        store: DiskStore,
        logs: Logs,
        *,
        handle: Callable[[messages.Event], None],
        finish: Callable[[list[Done]], None],
        wanted: Callable[[TaskKey], bool],
        known: Callable[[TaskKey], bool],
        adopt: Callable[[Assignment], None],
        settled: Callable[[], bool],
        own: Callable[[Coroutine[None, None, None]], None],
        drop: Callable[[int], Worker],
    ) -> None:
        self._store = store
        self._logs = logs
        self._handle = handle
        self._finish = finish
        self._wanted = wanted
        self._known = known
        self._adopt = adopt
        self._settled = settled
        self._own = own
        self._drop = drop
        self._busy: dict[Worker, Busy] = {}
        self._with: dict[TaskKey, Busy] = {}

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

    def execute(self, number: int, worker: Worker, tasks: Sequence[tuple[Given, Assignment]], ahead: int) -> None:
        """Give these to a worker, after those that it has; a single one with up to so many that follow."""
        busy = self._busy.get(worker)
        if busy is None:
            busy = self._busy[worker] = Busy(number, worker)
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
            if not (ahead and worker.takes_rows and self._give_row(busy, jobs[0], ahead)):
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
        told = Told()
        for end in ends:
            task = cast(SmallTask, end.job)
            key = task.assignment.key
            task.close()
            if busy.tasks.get(key) is not task:
                continue  # it followed from a task that has failed, as we found
            if end.left is None and not end.again:
                self._take(busy, task, end, told)
                continue
            if task.ahead:
                self._tell(busy, told)
                told = Told()
            if end.left is not None:
                self._own(self._take_left(busy, task, end))
            else:
                self._forget(busy, key)
                told.heavy.append(key)
            self._cut(busy, task)
        self._let_go(busy)
        self._tell(busy, told)

    def died(self, worker: Worker, job: SmallJob | None, outcome: Outcome, others: Sequence[SmallJob]) -> None:
        """See Listener."""
        busy = self._busy.get(worker)
        if busy is None or busy.killed:
            return
        task = cast("SmallTask | None", job)
        if task is not None and task.ahead:  # how the former ones of its row have ended was not heard
            task = next((known for known in busy.tasks.values() if not known.ahead), None)
        if task is not None and busy.tasks.get(task.assignment.key) is not task:
            task = None
        keys = []
        for other in (*others, job):
            if other is not None and other is not task:
                keys += self._forget_with(busy, cast(SmallTask, other))
        if keys:
            self._handle(messages.TasksReturned(busy.number, keys, usable=False))
        if task is None:
            self._let_go(busy)
            return
        task.close()
        self._forget(busy, task.assignment.key)
        self._let_go(busy)
        self._end(busy, task.assignment, result_of(task.assignment, task.given, outcome, ()))

    # ------------------------------------------------------------------------------------------------------ rows

    def _give_row(self, busy: Busy, first: SmallTask, most: int) -> bool:
        """Give the worker, which has no other, a task and what follows it; False if there is nothing, or no room."""
        if len(busy.tasks) > 1 or not self._settled():  # of the last row there may be what is not safe elsewhere yet
            return False
        follow = rows.followers(first.assignment, most, self._known)
        if not follow:
            return False
        row = [first]
        for link, task in follow:
            row.append(SmallTask(task, Given(task.key, 0.0, 0.0), (), self._logs, first.given_at, link))
            row[-2].after = row[-1]
        said = rows.describe([each.assignment for each in row])
        durable = self._store.durability == "power"
        try:
            busy.worker.give(row, self, Row(said, durable))
        except OSError:
            first.after = None
            return False
        for each in row[1:]:
            busy.tasks[each.assignment.key] = each
            self._with[each.assignment.key] = busy
        return True

    def _take(self, busy: Busy, task: SmallTask, end: SmallEnd, told: Told) -> None:
        """A task has ended, and the worker is at what follows in its row, if there is any and its input was made."""
        key, after = task.assignment.key, task.after
        if not task.ahead:
            told.wanted = self._wanted(key)
        self._forget(busy, key)
        (told.ahead if task.ahead else told.ended).append(key)
        told.seconds += end.seconds
        told.at = None
        if not told.wanted:
            self._cut(busy, task)
            return
        result = self._result(task, end)
        if after is not None:
            port = task.assignment.work.outputs[after.link].name
            made = next((each.unit for each in result.outputs if each.port == port), None)
            if made is not None:
                after.assignment = follower(after.assignment.work, made)
                told.at = after
            else:
                self._cut(busy, task)
                if end.failure is None and busy.worker.alive:
                    self._return(busy)  # the worker has found nothing wrong with it, and goes on
        told.done.append(Done(task.assignment, result, gone_on=told.at is not None))

    def _cut(self, busy: Busy, task: SmallTask) -> None:
        """Nothing is to follow a task in its row. What the worker has begun all the same is not heard."""
        after, task.after = task.after, None
        while after is not None:
            self._forget(busy, after.assignment.key)
            after = after.after

    def _tell(self, busy: Busy, told: Told) -> None:
        """Tell the core what has ended, and where the worker is; then let the results be told."""
        at = None
        if told.at is not None:
            told.at.ahead = False
            at = told.at.assignment.key
            self._adopt(told.at.assignment)
        if told.heavy:
            self._handle(messages.TasksReturned(busy.number, told.heavy, busy.worker.alive, heavy=True))
        if told.ended:
            self._handle(
                messages.TasksEnded(
                    busy.number, told.ended, busy.worker.alive, told.seconds, small=True, ahead=told.ahead, at=at
                )
            )
            self._finish(told.done)

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
        waited = max(0.0, time.monotonic() - task.given_at - end.seconds) if task.link < 0 else 0.0
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

    async def _take_left(self, busy: Busy, task: SmallTask, end: SmallEnd) -> None:
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
            self._store.space.check(size)
            path = self._store.partial / f"{unit.hex()}.{key.attempt}"
            try:
                await asyncio.to_thread(shutil.copyfile, made.path, path)
                content = await self._store.commit(path, UnitKey(key.namespace, key.run, unit))
            except (DataError, OSError):
                path.unlink(missing_ok=True)
                raise
        else:
            content = await self._store.commit(path, UnitKey(key.namespace, key.run, unit))
        return Output(made.port, made.index, UnitInfo(unit, content.digest, content.size, name=made.name))

    async def _kill(self, busy: Busy, key: TaskKey) -> None:
        """Kill a worker for the sake of the task that it is at."""
        await self._drop(busy.number).stop()
        self._busy.pop(busy.worker, None)
        others = [other for other, task in busy.tasks.items() if other != key and not task.ahead]
        for known, task in busy.tasks.items():
            task.close()
            del self._with[known]
        if others:
            self._handle(messages.TasksReturned(busy.number, others, usable=False))
        self._handle(messages.TasksEnded(busy.number, [key], usable=False))

    def _return(self, busy: Busy) -> None:
        """Take back what the worker has not begun."""
        keys = []
        for job in busy.worker.take_back():
            keys += self._forget_with(busy, cast(SmallTask, job))
        for task in busy.tasks.values():
            if task.after is not None and task.after.assignment.key not in busy.tasks:
                task.after = None
        self._handle(messages.TasksReturned(busy.number, keys))
        self._let_go(busy)

    def _end(self, busy: Busy, task: Assignment, result: Result, seconds: float = 0.0) -> None:
        wanted = self._wanted(task.key)
        self._handle(messages.TasksEnded(busy.number, [task.key], busy.worker.alive, seconds))
        if wanted:
            self._finish([Done(task, result)])

    def _forget_with(self, busy: Busy, task: SmallTask) -> list[TaskKey]:
        """A task that its worker does not execute; its key, if the core knows of it."""
        key = task.assignment.key
        if busy.tasks.get(key) is not task:
            return []
        self._forget(busy, key)
        return [] if task.ahead else [key]

    def _forget(self, busy: Busy, key: TaskKey) -> None:
        busy.tasks.pop(key, None)
        self._with.pop(key, None)

    def _let_go(self, busy: Busy) -> None:
        """A worker without tasks is no business of ours; one that is not to be used again is dropped."""
        if busy.tasks:
            return
        self._busy.pop(busy.worker, None)
        if not busy.worker.alive:
            self._own(self._drop(busy.number).stop())
