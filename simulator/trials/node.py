"""A node daemon as a simulated process: the production core, outbox, ends of tasks and link, over a played disk.

    agent ◀── AgentLink ──▶ Daemon ─▶ NodeCore ─▶ played workers ─▶ Finishing ─▶ Journal, Outbox
                              └─▶ Bulk (fetch, push, open)

A worker takes as long as it is told and makes units whose content follows from their id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import structlog

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.core import NodeCore
from cluster_agent.node.finishing import Done, Finishing
from cluster_agent.node.link import AgentLink
from cluster_agent.node.messages import Given, PoolSpec, TaskKey, Wanted
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.works import Assignment, Work, assignment, pool_spec, read_work
from cluster_agent.orders.messages import (
    VERSION,
    Acks,
    Downward,
    Failure,
    Frees,
    Hold,
    Orders,
    Output,
    Result,
    UnitInfo,
)
from cluster_agent.orders.messages import Work as ToldWork
from simulator.trials.agent import agent_name
from simulator.trials.bulk import UNIT_BYTES, Bulk
from simulator.trials.disk import Journal
from simulator.trials.hub import CREDENTIALS
from simulator.trials.loop import Process
from simulator.trials.network import End, Network
from wire.digests import bytes_digest, unit_id

if TYPE_CHECKING:
    from bdw_fed.v1.node_pb2_grpc import NodeServiceAsyncStub

_log = structlog.get_logger(__name__)


def node_name(cluster: str, node: str) -> str:
    """The place of a node in the network."""
    return f"node/{cluster}/{node}"


@dataclass
class Pace:
    """How a node works, whichever daemon it has: seconds of a task by step, and how often a worker dies over one."""

    seconds: Callable[[str, bytes], float]
    slow: float = 1.0
    dies: Callable[[bytes, int], bool] = lambda _task, _attempt: False
    start_seconds: float = 0.05


@dataclass
class _Worker:
    """A worker and what it was given, of which it is at the first."""

    tasks: deque[Given] = field(default_factory=deque)
    small: bool = False
    timer: asyncio.TimerHandle | None = None


class Daemon:
    """One life of a node's daemon."""

    def __init__(
        self,
        process: Process,
        network: Network,
        cluster: str,
        node: str,
        cpus: float,
        journal: Journal,
        pace: Pace,
        incarnation: bytes,
        bulk: Bulk,
    ) -> None:
        self.cluster = cluster
        self.node = node
        self.journal = journal
        self.core = NodeCore(cpus, 0)
        self.outbox = Outbox()
        self._process = process
        self._cpus = cpus
        self._pace = pace
        self._incarnation = incarnation
        self._bulk = bulk
        bulk.tell = self._tell
        store = cast(DiskStore, journal)
        self._finishing = Finishing(store, self.outbox, self.core, self._want)
        self._link = _Link(
            process, network, cluster, self._hello, self.outbox.take, self._news, self._handle, self._ordered
        )
        self.outbox.wake = self._link.wake
        self._works: dict[int, Work] = {}
        self._assignments: dict[TaskKey, Assignment] = {}
        self._pools: dict[str, PoolSpec] = {}
        self._stirred: dict[str, messages.PoolChanged] = {}
        self._workers: dict[int, _Worker] = {}
        self._splits: dict[TaskKey, asyncio.TimerHandle] = {}
        self._events: deque[messages.Event] = deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        for namespace, run, result in journal.results():
            self.outbox.keep(TaskKey(namespace, run, result.task, result.attempt), result)
        self._core_event(messages.ResultsKept(list(self.outbox.keys())))

    async def main(self) -> None:
        """Until it is killed."""
        await self._link.run()

    # ------------------------------------------------------------------------------------------------ the agent

    def _tell(self, message: node_pb2.NodeMessage) -> None:
        if self._process.alive:
            self._link.tell(message)

    def _hello(self) -> node_pb2.NodeMessage:
        self._works.clear()
        self.outbox.begin()
        for name in self._pools:
            self._stirred.setdefault(name, messages.PoolChanged(name))
        unfinished = [*self.core.unfinished(), *self._finishing.keys(), *self.outbox.keys()]
        hello = node_pb2.NodeHello(
            cluster=self.cluster,
            node=self.node,
            incarnation=self._incarnation,
            status=self._status(),
            running=[node_pb2.TaskKey(namespace=key[0], run=key[1], task=key[2], attempt=key[3]) for key in unfinished],
            units=[node_pb2.UnitKey(namespace=key[0], run=key[1], unit=key[2]) for key in self.journal.units],
            data_address=node_name(self.cluster, self.node),
            fetching=[node_pb2.UnitKey(namespace=key[0], run=key[1], unit=key[2]) for key in self._bulk.wanted()],
            orders_version=VERSION,
            results=len(self.outbox.keys()),
        )
        return node_pb2.NodeMessage(hello=hello)

    def _news(self) -> list[node_pb2.NodeMessage]:
        news = []
        for change in self._stirred.values():
            starting, idle, busy = self.core.counts(change.pool)
            changed = node_pb2.WorkersChanged(
                step=self._pools[change.pool].definition,
                starting=starting,
                idle=idle,
                busy=busy,
                start_seconds=change.start_seconds,
                error=change.error,
            )
            news.append(node_pb2.NodeMessage(workers=changed))
        self._stirred.clear()
        return news

    def _status(self) -> control_plane_pb2.NodeStatus:
        return control_plane_pb2.NodeStatus(
            name=self.node,
            ready=True,
            cpus=self._cpus,
            memory=1 << 32,
            workers=self.core.workers(),
            running=self.core.running(),
            data_address=node_name(self.cluster, self.node),
        )

    async def _handle(self, command: node_pb2.NodeCommand) -> None:
        match command.WhichOneof("kind"):
            case "welcome":
                self._core_event(messages.SizesVoid())
                self.journal.durability = command.welcome.durability or "process"
            case "cancel":
                key = command.cancel.key
                self._core_event(messages.TaskCancelled(TaskKey(key.namespace, key.run, key.task, key.attempt)))
            case "fetch":
                self._bulk.fetch(command.fetch)
            case "expect":
                self._bulk.expect(command.expect)
            case "push":
                self._bulk.push(command.push)
            case "open":
                await self._bulk.open(command.open)
            case "pool":
                spec = pool_spec(command.pool.definition, command.pool.execution, command.pool.resources)
                self._pools.setdefault(spec.key, spec)
                self._core_event(messages.PoolSized(spec, command.pool.workers, command.pool.bounded))
            case "end_run":
                order = command.end_run
                self._core_event(messages.RunEnded(order.namespace, order.run))
                self._finishing.hold(order.namespace, order.run, False)
                self._bulk.end_run(order.namespace, order.run, list(order.keep))
                self._link.nudge()
            case _:
                pass

    async def _ordered(self, order: Downward) -> None:
        match order:
            case Orders():
                work = self._works[order.work]
                self._want([assignment(work, each) for each in order.orders])
            case Acks():
                keys = [TaskKey(order.namespace, order.run, task, attempt) for task, attempt in order.tasks]
                self._core_event(messages.ResultsAcked(keys))
            case Frees():
                self._bulk.free([(order.namespace, order.run, unit) for unit in order.units])
            case ToldWork():
                self._works[order.number] = read_work(order, self._works)
            case Hold():
                self._finishing.hold(order.namespace, order.run, order.held)

    # ------------------------------------------------------------------------------------------------ the core

    def _want(self, tasks: Sequence[Assignment]) -> None:
        gathered: list[Wanted] = []
        pool: PoolSpec | None = None
        for task in tasks:
            if task.work.pool is not pool or pool is None:
                if gathered:
                    self._core_event(messages.TasksWanted(pool, gathered))
                gathered, pool = [], task.work.pool
                if pool is not None:
                    self._pools.setdefault(pool.key, pool)
            self._assignments.setdefault(task.key, task)
            gathered.append(Wanted(task.key, task.light))
        if gathered:
            self._core_event(messages.TasksWanted(pool, gathered))

    def _core_event(self, event: messages.Event) -> None:
        self._events.append(event)
        if self._handling or not self._process.alive:
            return
        self._handling = True
        try:
            while self._events:
                for action in self.core.handle(self._events.popleft(), self._now):
                    self._do(action)
        finally:
            self._handling = False
        if self._stirred:
            self._link.nudge()

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
                self._abort(action.key)
            case messages.TellAgain():
                self.outbox.again(action.key)
            case messages.StartWorker():
                self._later(self._pace.start_seconds, self._started, action.worker)
            case messages.StopWorker():
                del self._workers[action.worker]
            case messages.WakeAt():
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._later(action.at - self._now, self._core_event, messages.Tick())
            case messages.FailToStart():
                raise AssertionError("played workers always start")

    # ------------------------------------------------------------------------------------------------ workers

    def _started(self, number: int) -> None:
        self._workers[number] = _Worker()
        self._core_event(messages.WorkerReady(number, self._pace.start_seconds))

    def _execute(self, action: messages.Execute) -> None:
        if action.worker is None:
            (given,) = action.tasks
            self._splits[given.key] = self._later(self._seconds(given.key), self._split, given.key)
            return
        worker = self._workers[action.worker]
        worker.small = action.small
        worker.tasks.extend(action.tasks)
        self._go_on(action.worker, worker)

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
            self._end(number, task, failed, usable=False)
            return
        self._go_on(number, worker)
        result = Result(
            given.key.task,
            given.key.attempt,
            self._made(task),
            seconds=self._seconds(given.key),
            queued=given.queued_seconds,
            starting=given.start_seconds,
            bytes_in=task.bytes_in,
            bytes_out=UNIT_BYTES,
        )
        self._end(number, task, result, small=worker.small)

    def _lose(self, number: int, worker: _Worker) -> None:
        del self._workers[number]
        if waiting := [given.key for given in worker.tasks]:
            worker.tasks.clear()
            self._core_event(messages.TasksReturned(number, waiting))

    def _abort(self, key: TaskKey) -> None:
        """What is being done is killed with its worker, what waits behind it is returned."""
        if (timer := self._splits.pop(key, None)) is not None:
            timer.cancel()
            self._core_event(messages.TasksEnded(None, (key,)))
            return
        for number, worker in self._workers.items():
            position = next((at for at, given in enumerate(worker.tasks) if given.key == key), None)
            if position is None:
                continue
            del worker.tasks[position]
            if position:
                self._core_event(messages.TasksReturned(number, (key,)))
                return
            assert worker.timer is not None
            worker.timer.cancel()
            self._lose(number, worker)
            self._core_event(messages.TasksEnded(number, (key,), usable=False))
            return

    def _split(self, key: TaskKey) -> None:
        """A built-in task: some of its units are told while it runs."""
        del self._splits[key]
        task = self._assignments[key]
        units = self._made(task)
        if len(units) > 1:
            with contextlib.suppress(OSError):
                self.journal.flush()
                self.outbox.produced(key, units[: len(units) // 2])
        self._end(None, task, Result(key.task, key.attempt, units, bytes_in=task.bytes_in))

    def _end(
        self, number: int | None, task: Assignment, result: Result, *, usable: bool = True, small: bool = False
    ) -> None:
        wanted = self.core.phase(task.key) is not None
        self._core_event(messages.TasksEnded(number, (task.key,), usable, result.seconds, small))
        if wanted:
            self._finishing.done([Done(task, result)])

    def _made(self, task: Assignment) -> tuple[Output, ...]:
        execution = task.work.execution
        count = (execution.split.split.count or 1) if execution.HasField("split") else 1
        made = []
        for port in task.work.outputs:
            for index in range(count):
                identifier = unit_id(task.key.task, port.name, index)
                digest = bytes_digest(identifier)
                self.journal.put((task.key.namespace, task.key.run, identifier), digest, UNIT_BYTES)
                unit = UnitInfo(identifier, digest, UNIT_BYTES, task=task.key.task, name="unit")
                made.append(Output(port.name, index, unit))
        return tuple(made)

    def _seconds(self, key: TaskKey) -> float:
        return self._pace.seconds(self._assignments[key].work.step, key.task) * self._pace.slow

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        def due() -> None:
            if self._process.alive:
                call(*arguments)

        return asyncio.get_running_loop().call_later(max(0.0, seconds), due)


class _Link(AgentLink):
    """The link to the agent, over the played network."""

    def __init__(
        self,
        process: Process,
        network: Network,
        cluster: str,
        hello: Callable[[], node_pb2.NodeMessage],
        of_tasks: Callable[[], list[Any]],
        news: Callable[[], list[node_pb2.NodeMessage]],
        handle: Callable[[node_pb2.NodeCommand], Awaitable[None]],
        ordered: Callable[[Downward], Awaitable[None]],
    ) -> None:
        self._process = process
        self._network = network
        super().__init__(
            agent_name(cluster), cluster, CREDENTIALS, hello, of_tasks, news, handle, ordered, lambda: None
        )

    def _open(self) -> None:
        self._stub = cast("NodeServiceAsyncStub", _Service(self._process, self._network, self._address))
        self._stale = False


class _Service:
    """The agent's service: a call is a stream that is being opened."""

    def __init__(self, process: Process, network: Network, address: str) -> None:
        self._process = process
        self._network = network
        self._address = address

    def Attach(self) -> _Call:
        return _Call(self._network.dial(self._process, self._address, "attach"))


class _Call:
    """A stream that is there at the first use, or raises then."""

    def __init__(self, dialling: Awaitable[End]) -> None:
        self._end = asyncio.ensure_future(dialling)

    async def write(self, message: Any) -> None:
        end = await asyncio.shield(self._end)
        await end.write(message)

    async def __aiter__(self) -> Any:
        end = await asyncio.shield(self._end)
        async for message in end:
            yield message

    def cancel(self) -> None:
        if not self._end.done():
            self._end.cancel()
        elif not self._end.cancelled() and self._end.exception() is None:
            self._end.result().cancel()
