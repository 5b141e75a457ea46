"""All tasks of a node: the coordinator's commands go to the core, and what the core says is done.

    commands ─▶ NodeCore ─▶ StartWorker, StopWorker ─▶ workers
        ▲          │   ├──▶ Execute, Abort ─▶ executions, or small tasks ─▶ finishing ─▶ outbox
        │          │   └──▶ PoolChanged ─▶ news
        │          ◀── what came of it
        └── finishing: tasks that follow from one that has ended

Commands come in as plain calls; what the coordinator is told goes into the outbox, in the order in which it happened.
Whatever takes time is an asyncio task that this object owns and ends in `close`; light tasks have none.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bdw_fed.v1 import node_pb2
from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.core import NodeCore
from cluster_agent.node.directory import Directories
from cluster_agent.node.execution import result_of
from cluster_agent.node.executions import Executions
from cluster_agent.node.filling import NotFilledError, filled
from cluster_agent.node.finishing import Finishing
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given, PoolSpec, TaskKey, Wanted
from cluster_agent.node.news import PoolNews
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.sharing import Sharing
from cluster_agent.node.small import SmallTasks
from cluster_agent.node.started import Started
from cluster_agent.node.workers import Workers
from cluster_agent.node.works import BUILT_IN, Assignment, Done, Work, assignment, follower, pool_spec, read_work
from cluster_agent.orders.messages import Acks, Hold, Orders, UnitInfo, Window
from cluster_agent.orders.messages import Work as ToldWork
from cluster_agent.runtimes.base import Outcome, Room, Runtime

_KILL_SECONDS = 10.0


class Tasks:
    """All tasks of the node. `nudge` is called when there is news of pools."""

    def __init__(
        self,
        node_core: NodeCore,
        runtime: Runtime,
        bundles: Bundles,
        store: DiskStore,
        logs: Logs,
        outbox: Outbox,
        *,
        directories: Directories,
        nudge: Callable[[], None],
        sharing: Sharing | None = None,
    ) -> None:
        self._nudge = nudge
        self._core = node_core
        self._runtime = runtime
        self._store = store
        self._outbox = outbox
        self._works: dict[int, Work] = {}  # as the stream names them
        self._assignments: dict[TaskKey, Assignment] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._events: deque[messages.Event] = deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._finishing = Finishing(store, outbox, node_core, self._want, sharing)
        self._workers = Workers(node_core, runtime, bundles, self._handle, self._own)
        self._executions = Executions(
            node_core, self._workers, self._finishing, outbox, store, logs, directories, self._handle, self._own
        )
        self._small = SmallTasks(
            node_core, self._workers, self._finishing, store, logs, self._handle, self._own, self._adopt
        )
        self._started = Started(node_core, self._executions, self._small, outbox)
        self.windows = self._executions.windows
        self.news = PoolNews(node_core, self._workers)
        for namespace, run, result in store.journal.results():
            outbox.keep(TaskKey(namespace, run, result.task, result.attempt), result)
        self._handle(messages.ResultsKept(list(outbox.keys())))

    # ------------------------------------------------------------------------------------------------- questions

    def unfinished(self) -> list[TaskKey]:
        """Tasks whose results were not told yet."""
        return [*self._core.unfinished(), *self._finishing.keys()]

    @property
    def running(self) -> int:
        """Tasks that are being executed."""
        return self._core.running()

    @property
    def workers(self) -> int:
        """Workers of all pools."""
        return self._core.workers()

    def bundles_in_use(self) -> set[bytes]:
        """The digests of the bundles that workers were started with, or are."""
        return self._workers.bundles_in_use()

    # ------------------------------------------------------------------------------------------------- commands

    def begin(self) -> None:
        """A new stream: works are told anew, and so is what runs, and what pools have."""
        self._works.clear()
        self._outbox.begin()
        self._started.tell_anew()
        self._executions.tell_again()
        self.news.all_changed()

    def learn(self, told: ToldWork) -> None:
        """What tasks that will be named have in common."""
        self._works[told.number] = read_work(told, self._works)

    def start(self, orders: Orders) -> None:
        """Take on tasks."""
        work = self._works[orders.work]
        self._want([assignment(work, order) for order in orders.orders])

    def follower(self, number: int) -> Callable[[UnitInfo], bool] | None:
        """What goes on with a unit that no task has made, by the work of that number; None if there is none."""
        work = self._works.get(number)
        if work is None:
            return None

        def go_on(unit: UnitInfo) -> bool:
            large = work.pool is not None and not self._core.is_large_enough(work.pool)
            if large or self._finishing.holds(work.namespace, work.run):
                return False
            self._want([follower(work, unit)])
            return True

        return go_on

    def cancel(self, key: TaskKey) -> None:
        """Stop a task, and forget it."""
        self._handle(messages.TaskCancelled(key))

    def hold(self, told: Hold) -> None:
        """Whether a run's tasks may be gone on with."""
        self._finishing.hold(told.namespace, told.run, told.held)

    def bound(self, told: Window) -> None:
        """What a split may have in the store; nothing happens if it is not here any more."""
        key = TaskKey(told.namespace, told.run, told.task, told.attempt)
        if key in self._assignments:
            self.windows.told(key, told.most)

    def ack(self, acks: Acks) -> None:
        """Forget results that the coordinator has."""
        keys = [TaskKey(acks.namespace, acks.run, task, attempt) for task, attempt in acks.tasks]
        self._handle(messages.ResultsAcked(keys))

    def size_pool(self, order: node_pb2.SizePool) -> None:
        """Keep so many workers."""
        spec = pool_spec(order.definition, order.execution, order.resources)
        self._workers.learn(spec, order.execution, order.resources)
        self._handle(messages.PoolSized(spec, order.workers, order.bounded))

    def change_room(self, room: Room) -> None:
        """The node has so much for its workers from now on."""
        self._handle(messages.RoomChanged(room.cpus, room.memory, room.cordoned))

    def void_sizes(self) -> None:
        """The coordinator has forgotten what it asked for; see the core."""
        self._handle(messages.SizesVoid())

    async def end_run(self, namespace: str, run: str) -> None:
        """Stop and forget all tasks of a run; returns when none of them can write any more."""
        ending = self._executions.of(namespace, run)
        self._handle(messages.RunEnded(namespace, run))
        self._finishing.hold(namespace, run, False)
        if ending:
            await asyncio.wait(ending, timeout=_KILL_SECONDS)
        self._executions.end_run(run)

    async def close(self) -> None:
        """Stop everything."""
        self._closing = True
        self._runtime.leave()
        self._started.close()
        if self._timer is not None:
            self._timer.cancel()
        background = list(self._background)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        # Those whose task was killed just now are being stopped already.
        await asyncio.gather(self._workers.stop_all(), *self._background, return_exceptions=True)
        self._small.close()
        await self._finishing.close()
        self._outbox.close()
        await self._workers.close()
        await self._executions.close()

    # ------------------------------------------------------------------------------------------------ the core

    def _want(self, tasks: Sequence[Assignment]) -> None:
        """Take on tasks, of whichever works."""
        gathered: list[Wanted] = []
        pool: PoolSpec | None = None
        for given in tasks:
            try:
                task = filled(given, self._store)
            except NotFilledError as error:
                self._refuse(given, error.outcome)
                continue
            work = task.work
            if work.pool is None and work.kind not in BUILT_IN:
                self._refuse(task, Outcome("internal", f"nodes don't execute steps of the kind {work.kind or None}"))
                continue
            if work.pool is not pool or pool is None:
                if gathered:
                    self._handle(messages.TasksWanted(pool, gathered))
                gathered, pool = [], work.pool
                if pool is not None:
                    self._workers.learn(pool, work.execution, work.resources, work.namespace)
            self._assignments.setdefault(task.key, task)
            gathered.append(Wanted(task.key, task.light))
        if gathered:
            self._handle(messages.TasksWanted(pool, gathered))

    def _handle(self, event: messages.Event) -> None:
        """Let the core take an event in and do what it says, one after another."""
        self._events.append(event)
        if self._handling or self._closing:
            return
        self._handling = True
        try:
            while self._events:
                for action in self._core.handle(self._events.popleft(), time.monotonic()):
                    self._do(action)
        finally:
            self._handling = False
        if self.news.any:
            self._nudge()

    def _do(self, action: messages.Action) -> None:
        match action:
            case messages.Execute():
                self._execute(action)
            case messages.PoolChanged():
                self.news.changed(action)
            case messages.Forget():
                self._finishing.forget(action.keys)
                self.windows.forget(action.keys)
                for key in action.keys:
                    self._assignments.pop(key, None)
            case messages.Abort():
                if not self._executions.abort(action.key):
                    self._small.abort(action.key)
            case messages.FailToStart():
                message, _, detail = action.error.partition("\0")
                self._fail(action.key, Outcome("start", message, detail))
            case messages.GiveBack():
                self._fail(action.key, Outcome("room", action.why))
            case messages.TellAgain():
                self._outbox.again(action.key)
            case messages.StartWorker():
                self._workers.start(action.worker, action.pool)
            case messages.StopWorker():
                self._workers.stop(action.worker)
            case messages.WakeAt():
                self._wake_at(action.at)

    def _execute(self, action: messages.Execute) -> None:
        self._started.look_soon()
        if action.small:
            assert action.worker is not None
            tasks = [(given, self._assignments[given.key]) for given in action.tasks]
            self._small.execute(action.worker, tasks, action.ahead)
        else:
            (given,) = action.tasks
            self._executions.begin(self._assignments[given.key], given, action.worker)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._handle, messages.Tick())

    def _refuse(self, task: Assignment, outcome: Outcome) -> None:
        self._assignments.setdefault(task.key, task)
        self._handle(messages.ResultsKept((task.key,)))
        self._fail(task.key, outcome)

    def _fail(self, key: TaskKey, outcome: Outcome) -> None:
        task = self._assignments[key]
        self._finishing.done([Done(task, result_of(task, Given(key, 0.0, 0.0), outcome, ()))])

    def _adopt(self, task: Assignment) -> None:
        self._assignments[task.key] = task

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def task_key(key: node_pb2.TaskKey) -> TaskKey:
    """The key of an attempt as the core has it."""
    return TaskKey(key.namespace, key.run, key.task, key.attempt)
