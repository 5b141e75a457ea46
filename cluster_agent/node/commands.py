"""What the agent says to a node: each command goes to the part of the daemon that it is about.

A command that fails is logged; it must not take the node down. Orders are what is said of tasks, many in a message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.shared.giving import Giving
from cluster_agent.data.transfer.readers import Readers
from cluster_agent.node.damage import Damages
from cluster_agent.node.data import DataWork
from cluster_agent.node.logs import Logs
from cluster_agent.node.outputs import SharedOutputs
from cluster_agent.node.queries import LogQueries
from cluster_agent.node.sharing import Sharing
from cluster_agent.node.tasks import Tasks, task_key
from cluster_agent.orders.messages import Acks, Downward, Frees, Hold, Orders, Window, Work

_log = structlog.get_logger(__name__)


class Commands:
    """Obeys the agent. `welcomed` takes in what it says when a stream begins, `ended` hears that a run has ended."""

    def __init__(
        self,
        *,
        welcomed: Callable[[node_pb2.NodeWelcome], Awaitable[None]],
        ended: Callable[[], None],
        tasks: Tasks,
        data: DataWork,
        outputs: SharedOutputs,
        sharing: Sharing,
        giving: Giving,
        damages: Damages,
        readers: Readers,
        logs: Logs,
        queries: LogQueries,
    ) -> None:
        self._welcomed = welcomed
        self._ended = ended
        self._tasks = tasks
        self._data = data
        self._outputs = outputs
        self._sharing = sharing
        self._giving = giving
        self._damages = damages
        self._readers = readers
        self._logs = logs
        self._queries = queries

    async def order(self, order: Downward) -> None:
        """Something is said of tasks."""
        try:
            await self._obey_order(order)
        except Exception:
            _log.exception("an order failed", order=type(order).__name__)

    async def command(self, command: node_pb2.NodeCommand) -> None:
        """Something else is to be done."""
        try:
            await self._obey(command)
        except Exception:
            _log.exception("a command failed", command=command.WhichOneof("kind"))

    async def _obey_order(self, order: Downward) -> None:
        match order:
            case Orders():
                self._tasks.start(order)
            case Acks():
                self._damages.acked(order.namespace, order.run, order.tasks)
                self._tasks.ack(order)
            case Frees():
                keys = [UnitKey(order.namespace, order.run, unit) for unit in order.units]
                await self._outputs.forget(keys)
                await self._data.free(keys)
            case Work():
                self._tasks.learn(order)
            case Hold():
                self._tasks.hold(order)
            case Window():
                self._tasks.bound(order)

    async def _obey(self, command: node_pb2.NodeCommand) -> None:
        match command.WhichOneof("kind"):
            case "welcome":
                await self._welcomed(command.welcome)
            case "members":
                self._readers.told(command.members)
            case "cancel":
                self._tasks.cancel(task_key(command.cancel.key))
            case "fetch":
                (self._outputs.refer if command.fetch.refer else self._data.fetch)(command.fetch)
            case "expect":
                self._data.expect(command.expect)
            case "push":
                self._data.push(command.push)
            case "open":
                self._data.open(command.open, self._tasks.follower(command.open.follow))
            case "adopt":
                await self._data.adopt(command.adopt)
            case "unshare":
                self._outputs.unshare(command.unshare)
            case "shared":
                self._sharing.others_reach(command.shared.places)
            case "keep":
                await self._data.cache.keep(command.keep)
            case "take":
                self._data.take(command.take)
            case "pool":
                self._tasks.size_pool(command.pool)
            case "logs":
                self._queries.read(command.logs)
            case "stop_logs":
                self._queries.stop(command.stop_logs.query)
            case "end_run":
                await self._end_run(command.end_run)

    async def _end_run(self, order: node_pb2.EndRun) -> None:
        await self._data.stop_run(order.namespace, order.run)
        await self._outputs.forget_run(order.namespace, order.run, order.keep)
        self._readers.run_ended(order.namespace, order.run)
        await self._tasks.end_run(order.namespace, order.run)
        over = not order.keep_shared
        if over:
            self._giving.sweep((order.namespace, order.run), others=order.sweep, keep=order.keep)
        await self._data.end_run(order.namespace, order.run, order.keep, order.away, results=over)
        await self._logs.end_run(order.namespace, order.run)
        self._ended()
