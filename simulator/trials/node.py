"""A node daemon as a simulated process: the production link, outbox and tasks, over a played disk.

agent ◀── AgentLink ──▶ Daemon ─▶ PlayedTasks ─▶ Journal, Outbox
                          └─▶ Bulk (fetch, push, open)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.data.space import coarse
from cluster_agent.node.core import NodeCore
from cluster_agent.node.damage import Damages
from cluster_agent.node.link import AgentLink
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.tasks import task_key
from cluster_agent.orders.messages import VERSION, Acks, Downward, Frees, Hold, Orders, Window, Work
from simulator.trials.agent import agent_name
from simulator.trials.bulk import Bulk
from simulator.trials.disk import Journal
from simulator.trials.hub import CREDENTIALS
from simulator.trials.loop import Process
from simulator.trials.network import Network
from simulator.trials.pace import Pace
from simulator.trials.streams import End
from simulator.trials.tasks import PlayedTasks
from wire.identity.revocations import as_mapping

if TYPE_CHECKING:
    from bdw_fed.v1.node_pb2_grpc import NodeServiceAsyncStub


def node_name(cluster: str, node: str) -> str:
    """The place of a node in the network."""
    return f"node/{cluster}/{node}"


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
        self._incarnation = incarnation
        self._bulk = bulk
        bulk.tell = self._tell
        self._damages = Damages(self._tell, self.outbox, lambda key: key in journal.units)
        journal.on_damage = self._damages.found
        self._link = _Link(
            process,
            network,
            cluster,
            self._hello,
            self.outbox.take,
            self._news,
            self._handle,
            self._ordered,
            lambda: journal.free_bytes < journal.stored,
        )
        self._told = (0, 0)
        journal.changed = self._link.nudge
        self.outbox.wake = self._link.wake
        self._tasks = PlayedTasks(self.core, journal, self.outbox, pace, process, self._link.nudge)

    async def main(self) -> None:
        """Until it is killed."""
        await self._link.run()

    # ------------------------------------------------------------------------------------------------ the agent

    def _tell(self, message: node_pb2.NodeMessage) -> None:
        if self._process.alive:
            self._link.tell(message)

    def _hello(self) -> node_pb2.NodeMessage:
        self._tasks.begin()
        self._damages.begin()
        unfinished = [*self._tasks.unfinished(), *self.outbox.keys()]
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
        news = self._tasks.news.take()
        disk = self._disk()
        if disk != self._told:
            self._told = disk
            news.append(node_pb2.NodeMessage(status=self._status()))
        return news

    def _disk(self) -> tuple[int, int]:
        """The room on its disk, as far as that is news."""
        return coarse(self.journal.free_bytes), self.journal.size

    def _status(self) -> control_plane_pb2.NodeStatus:
        return control_plane_pb2.NodeStatus(
            name=self.node,
            ready=True,
            cpus=self._cpus,
            memory=1 << 32,
            workers=self._tasks.workers,
            running=self._tasks.running,
            data_address=node_name(self.cluster, self.node),
            disk_free=self.journal.free_bytes,
            disk_size=self.journal.size,
        )

    async def _handle(self, command: node_pb2.NodeCommand) -> None:
        match command.WhichOneof("kind"):
            case "welcome":
                self._tasks.void_sizes()
                self.journal.durability = command.welcome.durability or "process"
                self._bulk.revocations.learn(as_mapping(command.welcome.revocations))
            case "cancel":
                self._tasks.cancel(task_key(command.cancel.key))
            case "fetch":
                self._bulk.fetch(command.fetch)
            case "expect":
                self._bulk.expect(command.expect)
            case "push":
                self._bulk.push(command.push)
            case "open":
                await self._bulk.open(command.open)
            case "pool":
                self._tasks.size_pool(command.pool)
            case "adopt":
                self._bulk.adopt(command.adopt)
            case "end_run":
                order = command.end_run
                await self._tasks.end_run(order.namespace, order.run)
                self._bulk.end_run(order.namespace, order.run, list(order.keep))
                self._link.nudge()
            case _:
                pass

    async def _ordered(self, order: Downward) -> None:
        match order:
            case Orders():
                self._tasks.start(order)
            case Acks():
                self._damages.acked(order.namespace, order.run, order.tasks)
                self._tasks.ack(order)
            case Frees():
                self._bulk.free([(order.namespace, order.run, unit) for unit in order.units])
            case Work():
                self._tasks.learn(order)
            case Hold():
                self._tasks.hold(order)
            case Window():
                self._tasks.bound(order)


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
        hurried: Callable[[], bool],
    ) -> None:
        self._process = process
        self._network = network
        super().__init__(
            agent_name(cluster),
            cluster,
            CREDENTIALS,
            hello,
            of_tasks,
            news,
            handle,
            ordered,
            lambda: None,
            hurried=hurried,
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
