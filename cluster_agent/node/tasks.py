"""Does what the node's core says: starts and stops workers, executes tasks, keeps their results until they are heard.

Commands of the coordinator come in as plain calls; what it is told goes into the outbox, in the order in which it
happened. Every worker start, execution and stop is an asyncio task that this object owns and ends in `close`; light
tasks have none (see `small`). That a task runs is only told if it does so for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.core import NodeCore
from cluster_agent.node.directory import Directories
from cluster_agent.node.execution import Execution, Surroundings, result_of
from cluster_agent.node.filling import NotFilledError, filled
from cluster_agent.node.finishing import Finishing
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given, PoolSpec, TaskKey, Wanted
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.recipe import worker_spec
from cluster_agent.node.sharing import Sharing
from cluster_agent.node.small import SmallTasks
from cluster_agent.node.works import BUILT_IN, Assignment, Done, Work, assignment, follower, pool_spec, read_work
from cluster_agent.orders.messages import SMALL, Acks, Hold, Orders, Output, Result, UnitInfo
from cluster_agent.orders.messages import Work as ToldWork
from cluster_agent.runtimes.base import Outcome, Room, Runtime, Worker
from cluster_agent.runtimes.errors import StartError


@dataclass
class _Pool:
    """What the workers of a pool are made of; `namespace` is where its bundle was asked for."""

    spec: PoolSpec
    execution: model_pb2.Execution
    disk: int
    namespace: str


_log = structlog.get_logger(__name__)
_KILL_SECONDS = 10.0
_LOOK_SECONDS = 0.002  # a task that is seen to run after that is told to have started


class Tasks:
    """All tasks and workers of the node. `nudge` is called when pools have changed."""

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
        self._bundles = bundles
        self._outbox = outbox
        self._splitters = ThreadPoolExecutor(max_workers=2, thread_name_prefix="split")
        self._around = Surroundings(directories, store, logs, self._splitters)
        self.windows = self._around.windows
        self._works: dict[int, Work] = {}  # as the stream names them
        self._assignments: dict[TaskKey, Assignment] = {}
        self._executions: dict[TaskKey, tuple[Execution, asyncio.Task[None]]] = {}
        self._pools: dict[str, _Pool] = {}
        self._workers: dict[int, Worker] = {}
        self._watches: dict[int, asyncio.Task[None]] = {}  # of workers, for one that dies when idle
        self._directories: dict[int, Directories] = {}  # of workers that see no others
        self._stirred: dict[str, messages.PoolChanged] = {}  # pools of which there is something to tell
        self._background: set[asyncio.Task[None]] = set()
        self._events: deque[messages.Event] = deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._seen: dict[TaskKey, bool] = {}  # tasks that ran when we looked last, and whether that was told
        self._closing = False
        self._finishing = Finishing(store, outbox, node_core, self._want, sharing)
        self._small = SmallTasks(
            store,
            logs,
            handle=self._handle,
            finish=self._finishing.done,
            wanted=self._is_wanted,
            known=node_core.knows,
            adopt=lambda task: self._assignments.__setitem__(task.key, task),
            settled=lambda: not self._finishing.keys(),
            own=self._own,
            drop=self._drop,
        )
        kept = store.journal.results()
        for namespace, run, result in kept:
            outbox.keep(TaskKey(namespace, run, result.task, result.attempt), result)
        self._handle(messages.ResultsKept(list(outbox.keys())))

    # ------------------------------------------------------------------------------------------------- questions

    def unfinished(self) -> list[TaskKey]:
        """Tasks whose results were not told yet."""
        return [*self._core.unfinished(), *self._finishing.keys()]

    def news_of_pools(self) -> list[node_pb2.NodeMessage]:
        """The numbers of the pools that have changed since this was asked; whoever sends asks when it can."""
        news = []
        for change in self._stirred.values():
            starting, idle, busy = self._core.counts(change.pool)
            changed = node_pb2.WorkersChanged(
                step=self._pools[change.pool].spec.definition,
                starting=starting,
                idle=idle,
                busy=busy,
                start_seconds=change.start_seconds,
                error=change.error.partition("\0")[0],
                full=self._core.is_full(change.pool),
            )
            news.append(node_pb2.NodeMessage(workers=changed))
        self._stirred.clear()
        return news

    def stir_pools(self) -> None:
        """All pools are news again: the agent is new to us."""
        for name in self._pools:
            self._stirred.setdefault(name, messages.PoolChanged(name))

    @property
    def running(self) -> int:
        """Tasks that are being executed."""
        return self._core.running()

    def bundles_in_use(self) -> set[bytes]:
        """The digests of the bundles that workers were started with, or are."""
        used = {pool.execution.bundle for key, pool in self._pools.items() if any(self._core.counts(key))}
        return used | {bytes.fromhex(directory.name) for directory in self._runtime.bundles()}

    @property
    def workers(self) -> int:
        """Workers of all pools."""
        return self._core.workers()

    # ------------------------------------------------------------------------------------------------- commands

    def begin(self) -> None:
        """A new stream: works are told anew, and so is what runs."""
        self._works.clear()
        self._outbox.begin()
        self._seen.clear()
        self._look_soon()
        for key, (execution, _) in self._executions.items():
            if self._is_wanted(key) and execution.units:
                self._outbox.produced(key, execution.units)

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

    def ack(self, acks: Acks) -> None:
        """Forget results that the coordinator has."""
        keys = [TaskKey(acks.namespace, acks.run, task, attempt) for task, attempt in acks.tasks]
        self._handle(messages.ResultsAcked(keys))

    def size_pool(self, order: node_pb2.SizePool) -> None:
        """Keep so many workers."""
        spec = pool_spec(order.definition, order.execution, order.resources)
        self._know_pool(spec, order.execution, order.resources, "")
        self._handle(messages.PoolSized(spec, order.workers, order.bounded))

    def change_room(self, room: Room) -> None:
        """The node has so much for its workers from now on."""
        self._handle(messages.RoomChanged(room.cpus, room.memory, room.cordoned))

    def void_sizes(self) -> None:
        """The coordinator has forgotten what it asked for; see the core."""
        self._handle(messages.SizesVoid())

    async def end_run(self, namespace: str, run: str) -> None:
        """Stop and forget all tasks of a run; returns when none of them can write any more."""
        ending = [task for key, (_, task) in self._executions.items() if key[:2] == (namespace, run)]
        self._handle(messages.RunEnded(namespace, run))
        self._finishing.hold(namespace, run, False)
        if ending:
            await asyncio.wait(ending, timeout=_KILL_SECONDS)
        for directories in (self._around.directories, *self._directories.values()):
            directories.end_run(run)

    async def close(self) -> None:
        """Stop everything."""
        self._closing = True
        self._runtime.leave()
        for timer in (self._timer, self._looking):
            if timer is not None:
                timer.cancel()
        executions = [task for _, task in self._executions.values()]
        tasks = [*executions, *self._watches.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        workers = list(self._workers.values())
        await asyncio.gather(*(worker.stop() for worker in workers), return_exceptions=True)
        self._small.close()
        await self._finishing.close()
        self._outbox.close()
        await self._runtime.close()
        for directories in (self._around.directories, *self._directories.values()):
            await directories.close()
        self._splitters.shutdown()

    # ------------------------------------------------------------------------------------------------ the core

    def _want(self, tasks: Sequence[Assignment]) -> None:
        """Take on tasks, of whichever works."""
        gathered: list[Wanted] = []
        pool: PoolSpec | None = None
        for given in tasks:
            try:
                task = filled(given, self._around.store)
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
                    self._know_pool(pool, work.execution, work.resources, work.namespace)
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
        if self._stirred:
            self._nudge()

    def _do(self, action: messages.Action) -> None:
        match action:
            case messages.Execute():
                self._execute(action)
            case messages.PoolChanged():
                if action.error or action.start_seconds:
                    self._stirred[action.pool] = action
                else:
                    self._stirred.setdefault(action.pool, action)
            case messages.Forget():
                self._finishing.forget(action.keys)
                for key in action.keys:
                    self._assignments.pop(key, None)
            case messages.Abort():
                if action.key in self._executions:
                    self._executions[action.key][1].cancel()
                else:
                    self._small.abort(action.key)
            case messages.FailToStart():
                message, _, detail = action.error.partition("\0")
                self._fail(action.key, Outcome("start", message, detail))
            case messages.GiveBack():
                self._fail(action.key, Outcome("room", action.why))
            case messages.TellAgain():
                self._outbox.again(action.key)
            case messages.StartWorker():
                self._own(self._start_worker(action.worker, action.pool))
            case messages.StopWorker():
                self._own(self._drop(action.worker).stop())
            case messages.WakeAt():
                self._wake_at(action.at)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._handle, messages.Tick())

    def _know_pool(
        self, spec: PoolSpec, execution: model_pb2.Execution, resources: model_pb2.Resources, namespace: str
    ) -> None:
        known = self._pools.get(spec.key)
        if known is None or (namespace and not known.namespace):
            self._pools[spec.key] = _Pool(spec, execution, resources.disk, namespace)

    def _is_wanted(self, key: TaskKey) -> bool:
        return self._core.phase(key) is not None

    def _refuse(self, task: Assignment, outcome: Outcome) -> None:
        self._assignments.setdefault(task.key, task)
        self._handle(messages.ResultsKept((task.key,)))
        self._fail(task.key, outcome)

    def _fail(self, key: TaskKey, outcome: Outcome) -> None:
        task = self._assignments[key]
        self._finishing.done([Done(task, result_of(task, Given(key, 0.0, 0.0), outcome, ()))])

    # -------------------------------------------------------------------------------------------------- workers

    async def _start_worker(self, worker: int, pool: PoolSpec) -> None:
        made_of = self._pools[pool.key]
        digest = made_of.execution.bundle
        began = time.monotonic()
        try:
            bundle = await self._bundles.get(made_of.namespace, digest) if digest else None
            started = await self._runtime.start(worker_spec(pool, made_of.execution, made_of.disk, bundle))
            await self._settle(worker, started)
        except StartError as error:
            say = _log.info if error.no_room else _log.warning
            say("a worker could not start", step=pool.definition, error=str(error))
            self._handle(messages.WorkerFailed(worker, f"{error}\0{error.detail}", error.no_room))
            return
        except OSError as error:
            self._handle(messages.WorkerFailed(worker, f"a worker could not start: {error}\0"))
            return
        self._workers[worker] = started
        self._watches[worker] = asyncio.create_task(self._watch(worker, started))
        self._handle(messages.WorkerReady(worker, time.monotonic() - began))

    async def _settle(self, worker: int, started: Worker) -> None:
        """Have a place for its tasks' directories, if it sees no others. OSError, and it is stopped."""
        if started.root is None:
            return
        try:
            self._directories[worker] = Directories(started.root)
        except OSError:
            await started.stop()
            raise

    async def _watch(self, worker: int, watched: Worker) -> None:
        await watched.gone.wait()
        if self._core.is_idle(worker):
            self._own(self._drop(worker).stop())
            self._handle(messages.WorkerGone(worker))

    def _drop(self, worker: int) -> Worker:
        self._watches.pop(worker).cancel()
        self._directories.pop(worker, None)
        return self._workers.pop(worker)

    # ------------------------------------------------------------------------------------------------ executions

    def _execute(self, action: messages.Execute) -> None:
        self._look_soon()
        if action.small:
            assert action.worker is not None
            tasks = [(given, self._assignments[given.key]) for given in action.tasks]
            if not self._workers[action.worker].takes_small:  # of a command whose image has no interpreter
                keys = [given.key for given in action.tasks]
                self._handle(messages.TasksReturned(action.worker, keys, heavy=True))
                return
            self._small.execute(action.worker, self._workers[action.worker], tasks, action.ahead)
            return
        (given,) = action.tasks
        worker = self._workers[action.worker] if action.worker is not None else None

        def tell(outputs: list[Output]) -> None:
            self._outbox.produced(given.key, outputs)

        directories = self._directories.get(action.worker) if action.worker is not None else None
        execution = Execution(self._assignments[given.key], given, self._around, worker, tell, directories)
        task = asyncio.create_task(self._run(execution, action.worker))
        self._executions[given.key] = (execution, task)

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
        del self._executions[key]
        usable = worker is not None and worker.alive
        if worker is not None and number is not None and not usable:
            self._own(self._drop(number).stop())
        wanted = self._is_wanted(key)
        seconds, small = 0.0, False
        if result is not None and result.failure is None:
            seconds = result.seconds
            small = _all_small(result)
        self._handle(messages.TasksEnded(number, (key,), usable, seconds, small))
        if result is not None and wanted:
            self._finishing.done([Done(execution.assignment, result)])

    # ------------------------------------------------------------------------------------------- what runs longer

    def _look_soon(self) -> None:
        """See before long which tasks run still."""
        if self._looking is None and not self._closing:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Tell of tasks that ran before as well, and relieve workers of what waits behind them."""
        self._looking = None
        now = time.monotonic()
        seen: dict[TaskKey, bool] = {}
        for key in (*self._executions, *self._small.current(now)):
            told = self._seen.get(key)
            if told is False and self._is_wanted(key):
                self._outbox.started(key)
                told = True
            seen[key] = bool(told)
        self._seen = seen
        self._small.relieve(now)
        if self._small.any or not all(seen.values()):
            self._look_soon()

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def task_key(key: node_pb2.TaskKey) -> TaskKey:
    """The key of an attempt as the core has it."""
    return TaskKey(key.namespace, key.run, key.task, key.attempt)


def _all_small(result: Result) -> bool:
    """Whether the task could have been executed as a small job: one small unit at most on each port."""
    return all(output.index == 0 and output.unit.size <= SMALL for output in result.outputs)
