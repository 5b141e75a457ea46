"""Executes light tasks as small jobs of a worker: their bytes go from the store to the worker and back, without a file.

    Execute ─▶ inputs from the store ─▶ worker ─▶ outputs into the journal (see `carried`) ─▶ Done
                                         │ ended one by one, told many at a time
                                         └ dead ─▶ one task charged, the others returned to the core

A single task may be the first of a row (see `rows`). Of a row the core knows one task, that which the worker was at
when we heard of it last; the others are *ahead*: the core hears of them when they have ended, or have to wait.

There is no asyncio task for a task: what happens is told by the worker's callbacks. Only what is rare has one: an
output that is large after all, which is taken out of the worker's directory, and the killing of a worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

from cluster_agent.data.errors import DataError
from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages, rows
from cluster_agent.node.busy import Busy, SmallTask, Told
from cluster_agent.node.carried import inputs_of, result_of_end, result_of_left
from cluster_agent.node.core import NodeCore
from cluster_agent.node.execution import outcome_of, result_of
from cluster_agent.node.finishing import Finishing
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given, TaskKey
from cluster_agent.node.workers import Own, Workers
from cluster_agent.node.works import Assignment, Done, follower
from cluster_agent.orders.messages import Result
from cluster_agent.runtimes.base import Outcome, Row, SmallEnd, SmallJob, Worker

_STUCK_SECONDS = 0.05  # after which those behind a task are taken back


class SmallTasks:
    """All light tasks that are with workers. `handle` takes the core's events, `own` what takes time, `finishing` ends
    of tasks; `adopt` hears of a task that nobody ordered."""

    def __init__(
        self,
        core: NodeCore,
        workers: Workers,
        finishing: Finishing,
        store: DiskStore,
        logs: Logs,
        handle: Callable[[messages.Event], None],
        own: Own,
        adopt: Callable[[Assignment], None],
    ) -> None:
        self._core = core
        self._workers = workers
        self._finishing = finishing
        self._store = store
        self._logs = logs
        self._handle = handle
        self._own = own
        self._adopt = adopt
        self._busy: dict[Worker, Busy] = {}

    # ------------------------------------------------------------------------------------------------- questions

    @property
    def any(self) -> bool:
        """Whether any task is with a worker."""
        return bool(self._busy)

    def current(self, now: float) -> Iterable[TaskKey]:
        """The tasks that are being executed now; `relieve` knows since when by how often this was asked."""
        for busy in self._busy.values():
            job = busy.worker.current()
            if job is not busy.at:
                busy.at, busy.since = job, now
            if job is not None:
                yield cast(SmallTask, job).assignment.key

    # -------------------------------------------------------------------------------------------------- commands

    def execute(self, number: int, tasks: Sequence[tuple[Given, Assignment]], ahead: int) -> None:
        """Give these to a worker, after those that it has; a single one with up to so many that follow."""
        worker = self._workers[number]
        if not worker.takes_small:  # of a command whose image has no interpreter
            self._handle(messages.TasksReturned(number, [given.key for given, _ in tasks], heavy=True))
            return
        busy = self._busy.get(worker)
        if busy is None:
            busy = self._busy[worker] = Busy(number, worker)
        now = time.monotonic()
        jobs = []
        broken: list[Done] = []
        heavy = []
        for given, task in tasks:
            try:
                inputs = inputs_of(self._store, task)
            except (DataError, OSError) as error:
                broken.append(Done(task, result_of(task, given, outcome_of(error), ())))
                continue
            if inputs is None:
                heavy.append(task.key)
                continue
            job = busy.tasks[task.key] = SmallTask(task, given, inputs, self._logs, now)
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
            self._finishing.done(broken)

    def abort(self, key: TaskKey) -> None:
        """A task is not wanted any more."""
        busy = next((each for each in self._busy.values() if key in each.tasks), None)
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
                self._own(self._take_left(busy, task, end, end.left))
            else:
                del busy.tasks[key]
                told.heavy.append(key)
            busy.cut(task)
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
        keys = [key for other in (*others, job) if other is not task for key in busy.give_up(other)]
        if keys:
            self._handle(messages.TasksReturned(busy.number, keys, usable=False))
        if task is None:
            self._let_go(busy)
            return
        task.close()
        del busy.tasks[task.assignment.key]
        self._let_go(busy)
        self._end(busy, task.assignment, result_of(task.assignment, task.given, outcome, ()))

    # ------------------------------------------------------------------------------------------------------ rows

    def _give_row(self, busy: Busy, first: SmallTask, most: int) -> bool:
        """Give the worker, which has no other, a task and what follows it; False if there is nothing, or no room."""
        if len(busy.tasks) > 1 or self._finishing.keys():  # of the last row there may be what is not safe elsewhere yet
            return False
        follow = rows.followers(first.assignment, most, self._core.knows)
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
        return True

    def _take(self, busy: Busy, task: SmallTask, end: SmallEnd, told: Told) -> None:
        """A task has ended, and the worker is at what follows in its row, if there is any and its input was made."""
        key, after = task.assignment.key, task.after
        if not task.ahead:
            told.wanted = self._core.wants(key)
        del busy.tasks[key]
        (told.ahead if task.ahead else told.ended).append(key)
        told.seconds += end.seconds
        told.at = None
        if not told.wanted:
            busy.cut(task)
            return
        result = result_of_end(self._store, task, end)
        if after is not None:
            port = task.assignment.work.outputs[after.link].name
            made = next((each.unit for each in result.outputs if each.port == port), None)
            if made is not None:
                after.assignment = follower(after.assignment.work, made)
                told.at = after
            else:
                busy.cut(task)
                if end.failure is None and busy.worker.alive:
                    self._return(busy)  # the worker has found nothing wrong with it, and goes on
        told.done.append(Done(task.assignment, result, gone_on=told.at is not None))

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
            self._finishing.done(told.done)

    # ---------------------------------------------------------------------------------------------------- inside

    async def _take_left(self, busy: Busy, task: SmallTask, end: SmallEnd, left: Path) -> None:
        """Take outputs out of the worker's directory, and let it go on."""
        key = task.assignment.key
        result = await result_of_left(self._store, task, end, left)
        if busy.killed or key not in busy.tasks:
            return
        del busy.tasks[key]
        busy.worker.go_on()
        self._let_go(busy)
        self._end(busy, task.assignment, result, end.seconds)

    async def _kill(self, busy: Busy, key: TaskKey) -> None:
        """Kill a worker for the sake of the task that it is at."""
        await self._workers.drop(busy.number).stop()
        self._busy.pop(busy.worker, None)
        others = [other for other, task in busy.tasks.items() if other != key and not task.ahead]
        for task in busy.tasks.values():
            task.close()
        if others:
            self._handle(messages.TasksReturned(busy.number, others, usable=False))
        self._handle(messages.TasksEnded(busy.number, [key], usable=False))

    def _return(self, busy: Busy) -> None:
        """Take back what the worker has not begun."""
        keys = [key for job in busy.worker.take_back() for key in busy.give_up(job)]
        for task in busy.tasks.values():
            if task.after is not None and task.after.assignment.key not in busy.tasks:
                task.after = None
        self._handle(messages.TasksReturned(busy.number, keys))
        self._let_go(busy)

    def _end(self, busy: Busy, task: Assignment, result: Result, seconds: float = 0.0) -> None:
        wanted = self._core.wants(task.key)
        self._handle(messages.TasksEnded(busy.number, [task.key], busy.worker.alive, seconds))
        if wanted:
            self._finishing.done([Done(task, result)])

    def _let_go(self, busy: Busy) -> None:
        """A worker without tasks is no business of ours; one that is not to be used again is dropped."""
        if busy.tasks:
            return
        self._busy.pop(busy.worker, None)
        if not busy.worker.alive:
            self._workers.stop(busy.number)
