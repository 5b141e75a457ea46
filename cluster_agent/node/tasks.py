"""Does what the node's core says: starts and stops workers, executes tasks, keeps their results until they are heard.

Commands of the coordinator come in as plain calls; what is told it goes out by `tell`, in the order in which it
happened. Every worker start, execution and stop is an asyncio task that this object owns and ends in `close`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.store import DiskStore
from cluster_agent.node import messages
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.core import NodeCore
from cluster_agent.node.directory import Directories
from cluster_agent.node.execution import Execution, Surroundings, finished
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import PoolSpec, TaskKey
from cluster_agent.runtimes.base import Outcome, Runtime, Worker, WorkerSpec
from cluster_agent.runtimes.errors import StartError


@dataclass
class _Pool:
    """What the workers of a pool are made of; `namespace` is where its bundle was asked for."""

    spec: PoolSpec
    execution: model_pb2.Execution
    disk: int
    namespace: str


Tell = Callable[[node_pb2.NodeMessage], None]
_log = structlog.get_logger(__name__)
_KILL_SECONDS = 10.0


class Tasks:
    """All tasks and workers of the node."""

    def __init__(
        self,
        node_core: NodeCore,
        runtime: Runtime,
        bundles: Bundles,
        store: DiskStore,
        logs: Logs,
        *,
        directories: Directories,
        cluster: str,
        node: str,
        tell: Tell,
        nudge: Callable[[], None],
    ) -> None:
        self._nudge = nudge
        self._core = node_core
        self._runtime = runtime
        self._bundles = bundles
        self._tell = tell
        self._splitters = ThreadPoolExecutor(max_workers=2, thread_name_prefix="split")
        self._around = Surroundings(directories, store, logs, self._splitters, cluster, node)
        self._orders: dict[TaskKey, node_pb2.StartTask] = {}
        self._results: dict[TaskKey, node_pb2.TaskFinished] = {}
        self._executions: dict[TaskKey, tuple[Execution, asyncio.Task[None]]] = {}
        self._pools: dict[str, _Pool] = {}
        self._workers: dict[int, Worker] = {}
        self._watches: dict[int, asyncio.Task[None]] = {}  # of workers, for one that dies when idle
        self._stirred: dict[str, messages.PoolChanged] = {}  # pools of which there is something to tell
        self._background: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    # ------------------------------------------------------------------------------------------------- questions

    def unfinished(self) -> list[TaskKey]:
        """Tasks that have no result yet."""
        return list(self._core.unfinished())

    def results(self) -> list[node_pb2.TaskFinished]:
        """Results that are not acknowledged."""
        return list(self._results.values())

    def so_far(self) -> Iterable[node_pb2.NodeMessage]:
        """What is to be said again, after a new connection, of tasks that run: that they do, and their units."""
        for key, (execution, _) in self._executions.items():
            if self._core.phase(key) is messages.Phase.RUNNING:
                yield node_pb2.NodeMessage(started=node_pb2.TaskStarted(key=execution.order.key))
                if execution.units:
                    outputs = node_pb2.TaskOutputs(key=execution.order.key, outputs=execution.units)
                    yield node_pb2.NodeMessage(outputs=outputs)

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
        return len(self._executions)

    @property
    def workers(self) -> int:
        """Workers of all pools."""
        return self._core.workers()

    # ------------------------------------------------------------------------------------------------- commands

    def start(self, order: node_pb2.StartTask) -> None:
        """Take on a task."""
        key = task_key(order.key)
        kind = order.execution.WhichOneof("kind")
        if key not in self._orders and kind not in ("python", "command", "split"):
            message = f"step {order.step} is of the kind {kind}, which nodes don't execute"
            self._tell_result(key, finished(key, order, Outcome("internal", message), [], *self._who))
            return
        self._orders.setdefault(key, order)
        pool = None
        if kind != "split":
            pool = self._pool(order.definition, order.execution, order.resources, order.key.namespace)
        self._handle(messages.TaskWanted(key, pool))

    def cancel(self, key: TaskKey) -> None:
        """Stop a task, and forget it."""
        self._handle(messages.TaskCancelled(key))

    def ack(self, keys: Iterable[TaskKey]) -> None:
        """Forget results that the coordinator has."""
        for key in keys:
            if self._core.phase(key) is None:
                self._results.pop(key, None)
            else:
                self._handle(messages.ResultsAcked((key,)))

    def size_pool(self, order: node_pb2.SizePool) -> None:
        """Keep so many workers."""
        pool = self._pool(order.definition, order.execution, order.resources, "")
        self._handle(messages.PoolSized(pool, order.workers))

    async def end_run(self, namespace: str, run: str) -> None:
        """Stop and forget all tasks of a run; returns when none of them can write any more."""
        ending = [task for key, (_, task) in self._executions.items() if key[:2] == (namespace, run)]
        self._handle(messages.RunEnded(namespace, run))
        if ending:
            await asyncio.wait(ending, timeout=_KILL_SECONDS)
        self._around.directories.end_run(run)

    async def close(self) -> None:
        """Stop everything."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        executions = [task for _, task in self._executions.values()]
        tasks = [*executions, *self._watches.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        workers = list(self._workers.values())
        await asyncio.gather(*(worker.stop() for worker in workers), return_exceptions=True)
        await self._runtime.close()
        await self._around.directories.close()
        self._splitters.shutdown()

    # ------------------------------------------------------------------------------------------------ the core

    def _handle(self, event: messages.Event) -> None:
        if self._closing:
            return
        for action in self._core.handle(event, time.monotonic()):
            match action:
                case messages.Execute():
                    self._execute(action)
                case messages.Abort():
                    self._executions[action.key][1].cancel()
                case messages.FailToStart():
                    order = self._orders[action.key]
                    message, _, detail = action.error.partition("\0")
                    outcome = Outcome("start", message, detail)
                    self._tell_result(action.key, finished(action.key, order, outcome, [], *self._who))
                case messages.TellAgain():
                    self._tell(node_pb2.NodeMessage(finished=self._results[action.key]))
                case messages.Forget():
                    self._results.pop(action.key, None)
                    self._orders.pop(action.key, None)
                case messages.StartWorker():
                    self._own(self._start_worker(action.worker, action.pool))
                case messages.StopWorker():
                    self._own(self._drop(action.worker).stop())
                case messages.PoolChanged():
                    if action.error or action.start_seconds:
                        self._stirred[action.pool] = action
                    else:
                        self._stirred.setdefault(action.pool, action)
                case messages.WakeAt():
                    self._wake_at(action.at)
        if self._stirred:
            self._nudge()

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._handle, messages.Tick())

    def _pool(
        self, definition: str, execution: model_pb2.Execution, resources: model_pb2.Resources, namespace: str
    ) -> PoolSpec:
        version = execution.SerializeToString(deterministic=True)
        limits = resources.SerializeToString(deterministic=True)
        name = f"{definition}\0{version.hex()}\0{limits.hex()}"
        known = self._pools.get(name)
        if known is None or (namespace and not known.namespace):
            spec = PoolSpec(name, definition, resources.cpus or 1.0, resources.memory)
            known = self._pools[name] = _Pool(spec, execution, resources.disk, namespace)
        return known.spec

    # -------------------------------------------------------------------------------------------------- workers

    async def _start_worker(self, worker: int, pool: PoolSpec) -> None:
        made_of = self._pools[pool.key]
        digest = made_of.execution.bundle
        began = time.monotonic()
        try:
            bundle = await self._bundles.get(made_of.namespace, digest) if digest else None
            started = await self._runtime.start(_worker_spec(made_of, bundle))
        except StartError as error:
            _log.warning("a worker could not start", step=pool.definition, error=str(error))
            self._handle(messages.WorkerFailed(worker, f"{error}\0{error.detail}"))
            return
        except OSError as error:
            self._handle(messages.WorkerFailed(worker, f"a worker could not start: {error}\0"))
            return
        self._workers[worker] = started
        self._watches[worker] = asyncio.create_task(self._watch(worker, started))
        self._handle(messages.WorkerReady(worker, time.monotonic() - began))

    async def _watch(self, worker: int, watched: Worker) -> None:
        await watched.gone.wait()
        if not any(execution.worker is watched for execution, _ in self._executions.values()):
            self._own(self._drop(worker).stop())
            self._handle(messages.WorkerGone(worker))

    def _drop(self, worker: int) -> Worker:
        self._watches.pop(worker).cancel()
        return self._workers.pop(worker)

    # ------------------------------------------------------------------------------------------------ executions

    def _execute(self, action: messages.Execute) -> None:
        key = action.key
        order = self._orders[key]
        worker = self._workers[action.worker] if action.worker is not None else None

        def tell(unit: node_pb2.ProducedUnit) -> None:
            self._tell(node_pb2.NodeMessage(outputs=node_pb2.TaskOutputs(key=order.key, outputs=[unit])))

        execution = Execution(key, order, self._around, worker, tell)
        started = node_pb2.TaskStarted(
            key=order.key, queued_seconds=action.queued_seconds, start_seconds=action.start_seconds
        )
        self._tell(node_pb2.NodeMessage(started=started))
        task = asyncio.create_task(self._run(execution, action.worker))
        self._executions[key] = (execution, task)

    async def _run(self, execution: Execution, number: int | None) -> None:
        result: node_pb2.TaskFinished | None = None
        try:
            result = await execution.run()
        except asyncio.CancelledError:
            pass  # not wanted any more: the task and its processes are gone
        except Exception as error:
            _log.exception("an execution broke", step=execution.order.step)
            outcome = Outcome("internal", f"{type(error).__name__}: {error}")
            result = finished(execution.key, execution.order, outcome, [], *self._who)
        self._end(execution, number, result)

    def _end(self, execution: Execution, number: int | None, result: node_pb2.TaskFinished | None) -> None:
        key, worker = execution.key, execution.worker
        del self._executions[key]
        usable = worker is not None and worker.alive
        if worker is not None and number is not None and not usable:
            self._own(self._drop(number).stop())
        if result is not None and self._core.phase(key) is not None:
            self._tell_result(key, result)
        self._handle(messages.TaskEnded(key, usable))

    @property
    def _who(self) -> tuple[str, str]:
        return self._around.cluster, self._around.node

    def _tell_result(self, key: TaskKey, result: node_pb2.TaskFinished) -> None:
        self._results[key] = result
        self._tell(node_pb2.NodeMessage(finished=result))

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def task_key(key: node_pb2.TaskKey) -> TaskKey:
    """The key of an attempt as the core has it."""
    return TaskKey(key.namespace, key.run, key.task, key.attempt)


def _worker_spec(pool: _Pool, bundle: Path | None) -> WorkerSpec:
    execution = pool.execution
    env = execution.command.env if execution.HasField("command") else execution.python.env
    return WorkerSpec(
        definition=pool.spec.definition,
        function=execution.python.function if execution.HasField("python") else "",
        argv=tuple(execution.command.argv),
        env=tuple(sorted(env.items())),
        bundle=bundle,
        memory=pool.spec.memory,
        disk=pool.disk,
    )
