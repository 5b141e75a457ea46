"""The node daemon: one process a node, which holds the node's data and workers and serves its cluster's coordinator.

    agent ◀── link ──▶ commands ─▶ tasks (core, executions) ─▶ runtime ─▶ workers
               ▲          │            │
               │          └─▶ data ─▶ store ◀─ door ◀── other nodes
               └── report, outbox

While the agent is away tasks go on, and their results wait. Made and ended by `service`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from bdw_fed.v1 import node_pb2
from cluster_agent.data.scrub.scrubber import PERIOD_SECONDS, Scrubber
from cluster_agent.data.shared.giving import Giving
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer.client import TransferClient
from cluster_agent.membership.renewal import Renewal
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.commands import Commands
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.core import NodeCore
from cluster_agent.node.damage import Damages
from cluster_agent.node.data import DataWork
from cluster_agent.node.directory import Directories
from cluster_agent.node.door import Door
from cluster_agent.node.link import AgentLink
from cluster_agent.node.logs import Logs
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.outputs import SharedOutputs
from cluster_agent.node.queries import LogQueries
from cluster_agent.node.report import Report
from cluster_agent.node.sharing import Sharing
from cluster_agent.node.tasks import Tasks
from cluster_agent.orders.messages import Downward
from cluster_agent.relay.dialling import Routes
from cluster_agent.runtimes.base import Room, Runtime
from wire.identity.requests import identity_in
from wire.identity.revocations import Revocations

if TYPE_CHECKING:
    import ssl


class NodeDaemon:
    """The parts of a daemon, put together."""

    def __init__(
        self,
        config: NodeConfig,
        runtime: Runtime,
        store: DiskStore,
        client: TransferClient,
        client_context: ssl.SSLContext,
        routes: Routes,
        revocations: Revocations,
    ) -> None:
        self._store = store
        self._logs = Logs(config.state / "logs")
        self._places = SharedPlaces(config.storage)
        self._data = DataWork(store, client, self._tell, self._places)
        self._giving = Giving(store, self._places, config.cluster, config.state / "shared")
        self._sharing = Sharing(self._places, self._giving, self._tell)
        self._outputs = SharedOutputs(store, self._giving, self._places, config.cluster, self._tell)
        self._door = Door(config, store, self._data.arrivals, client_context, routes, revocations)
        self._queries = LogQueries(self._logs, lambda: self._link, config.cluster, config.node)
        self._outbox = Outbox()
        self._link = self._make_link(config)
        period = PERIOD_SECONDS if config.scrub_period is None else config.scrub_period
        self._scrubber = Scrubber(store, period, config.scrub_most, self._link.nudge)
        self._damages = Damages(self._tell, self._outbox, store.holds)
        self._renewal = Renewal(config.credentials, self._link.certify, self._renewed)
        self._bundles = Bundles(config.state / "bundles", self._link.bundle, self._bundles_in_use)
        room = runtime.room or Room(config.cpus, config.memory)
        self._tasks = Tasks(
            NodeCore(room.cpus, room.memory, held=config.kubernetes is not None),
            runtime,
            self._bundles,
            store,
            self._logs,
            self._outbox,
            directories=Directories(config.state / "tasks"),
            nudge=self._link.nudge,
            sharing=self._sharing if self._places else None,
        )
        self._report = self._make_report(config, room)
        self._commands = self._make_commands()
        self._outbox.wake = self._link.wake
        store.on_damage = self._damages.found
        store.on_moved = self._link.nudge
        store.space.listeners.append(self._link.nudge)
        self._change_room(room)
        runtime.follow_room(self._change_room)

    def _make_link(self, config: NodeConfig) -> AgentLink:
        return AgentLink(
            config.agent,
            config.cluster,
            config.credentials,
            hello=self._hello,
            of_tasks=self._outbox.take,
            news=self._news,
            handle=self._handle,
            ordered=self._ordered,
            lost=self._queries.lost,
            generation=identity_in(config.credentials).agent.generation,
            hurried=self._store.space.is_tight,  # else what a task has written would seem to be free for a moment
        )

    def _make_report(self, config: NodeConfig, room: Room) -> Report:
        return Report(
            config,
            room,
            tasks=self._tasks,
            outbox=self._outbox,
            store=self._store,
            scrubber=self._scrubber,
            data=self._data,
            door=self._door,
            places=self._places,
            giving=self._giving,
        )

    def _make_commands(self) -> Commands:
        return Commands(
            welcomed=self._welcomed,
            ended=self._link.nudge,
            tasks=self._tasks,
            data=self._data,
            outputs=self._outputs,
            sharing=self._sharing,
            giving=self._giving,
            damages=self._damages,
            readers=self._door.readers,
            logs=self._logs,
            queries=self._queries,
        )

    @property
    def data_address(self) -> str:
        """Where others find the node's data, once it is open."""
        return self._door.address

    async def open(self) -> None:
        """Serve data. OSError if the address is taken."""
        await self._door.open()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve the agent until `stop` is set."""
        tasks = [asyncio.create_task(part) for part in self._parts(stop)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def _parts(self, stop: asyncio.Event) -> list[Coroutine[None, None, object]]:
        return [self._link.run(), self._renewal.run(), self._scrubber.run(), self._store.space.watch(), stop.wait()]

    async def close(self) -> None:
        """Stop all parts, the outermost first."""
        self._scrubber.close()
        await self._queries.close()
        await self._door.close()
        await self._tasks.close()
        await self._sharing.close()
        await self._outputs.close()
        await self._data.close()
        await self._giving.close()
        await self._places.close()
        await self._bundles.close()
        await self._link.close()

    def _renewed(self) -> None:
        """Our certificate is another: connections from now on show it."""
        self._door.renewed()
        self._link.renewed()

    def _change_room(self, room: Room) -> None:
        self._report.room = room
        self._tasks.change_room(room)
        self._link.nudge()

    # --------------------------------------------------------- what the link asks, and parts that are made after it

    def _tell(self, message: node_pb2.NodeMessage) -> None:
        self._link.tell(message)

    def _hello(self) -> node_pb2.NodeMessage:
        """A stream begins: what the coordinator must know to go on; the results that it may not have follow."""
        self._tasks.begin()
        self._damages.begin()
        self._sharing.others_reach(())  # until the coordinator says so
        return self._report.hello()

    def _news(self) -> list[node_pb2.NodeMessage]:
        return self._report.news()

    async def _handle(self, command: node_pb2.NodeCommand) -> None:
        await self._commands.command(command)

    async def _ordered(self, order: Downward) -> None:
        await self._commands.order(order)

    def _bundles_in_use(self) -> set[bytes]:
        return self._tasks.bundles_in_use()

    async def _welcomed(self, welcome: node_pb2.NodeWelcome) -> None:
        self._tasks.void_sizes()
        self._data.data_root = Path(welcome.data_root)
        self._store.durability = welcome.durability or "process"
        self._renewal.told(welcome.renew_after)
        await self._door.welcomed(welcome)
