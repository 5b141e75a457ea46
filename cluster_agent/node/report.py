"""What a node says of itself: all that the coordinator must know to go on with it, and then what has changed.

The hello says what is here and what runs; after it a status is told when something of it is news.
"""

from __future__ import annotations

import os

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.data.scrub.scrubber import Scrubber
from cluster_agent.data.shared.giving import Giving
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.data.space import coarse
from cluster_agent.data.store import DiskStore
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.damage import scrub_status
from cluster_agent.node.data import DataWork
from cluster_agent.node.door import Door
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.tasks import Tasks
from cluster_agent.node.tiers import news_of, tiers_of
from cluster_agent.orders.messages import VERSION
from cluster_agent.runtimes.base import Room
from wire.identity import server_name
from wire.identity.requests import identity_in


class Report:
    """Reads what is told from the parts of the daemon. `room` is what the node has for its workers."""

    def __init__(
        self,
        config: NodeConfig,
        room: Room,
        *,
        tasks: Tasks,
        outbox: Outbox,
        store: DiskStore,
        scrubber: Scrubber,
        data: DataWork,
        door: Door,
        places: SharedPlaces,
        giving: Giving,
    ) -> None:
        self.room = room
        self._config = config
        self._tasks = tasks
        self._outbox = outbox
        self._store = store
        self._scrubber = scrubber
        self._data = data
        self._door = door
        self._places = places
        self._giving = giving
        self._incarnation = os.urandom(16)
        self._server_name = server_name(identity_in(config.credentials))
        self._told = control_plane_pb2.NodeStatus()

    def hello(self) -> node_pb2.NodeMessage:
        """What a stream begins with."""
        self._told = self._status()
        hello = node_pb2.NodeHello(
            cluster=self._config.cluster,
            node=self._config.node,
            incarnation=self._incarnation,
            status=self._told,
            # What is done and not acknowledged counts as running: its result comes with the hello or right after it.
            running=[_proto_task(key) for key in (*self._tasks.unfinished(), *self._outbox.keys())],
            units=[_proto_unit(key) for key in self._store.units()],
            data_address=self._door.address,
            server_name=self._server_name,
            fetching=[_proto_unit(key) for key in self._data.wanted()],
            orders_version=VERSION,
            results=len(self._outbox.keys()),
            places=self._places.names(),
            shared=[node_pb2.SharedRun(namespace=run[0], run=run[1]) for run in self._giving.marked()],
        )
        return node_pb2.NodeMessage(hello=hello)

    def news(self) -> list[node_pb2.NodeMessage]:
        """What is told once a batch, if it has changed."""
        news = self._tasks.news.take()
        status = self._status()
        if _shown(status) != _shown(self._told):
            self._told = status
            news.append(node_pb2.NodeMessage(status=status))
        return news

    def _status(self) -> control_plane_pb2.NodeStatus:
        return control_plane_pb2.NodeStatus(
            name=self._config.node,
            ready=True,
            cpus=self.room.cpus,
            memory=self.room.memory,
            cordoned=self.room.cordoned,
            disk_free=self._store.space.to_be_had(),
            disk_size=self._store.space.size(),
            workers=self._tasks.workers,
            running=self._tasks.running,
            stored_bytes=self._store.stored_bytes,
            pid=os.getpid(),
            data_address=self._door.address,
            tiers=tiers_of(self._store, self._places),
            scrub=scrub_status(self._scrubber.progress),
        )


def _shown(status: control_plane_pb2.NodeStatus) -> tuple[object, ...]:
    """What of a status is news when it has changed."""
    room = (status.cpus, status.memory, status.cordoned)
    scrubbed = (int(status.scrub.ended), status.scrub.damaged)
    disk = (coarse(status.disk_free), status.disk_size)
    return (*room, status.workers, status.running, *news_of(status.tiers), *disk, *scrubbed)


def _proto_task(key: tuple[str, str, bytes, int]) -> node_pb2.TaskKey:
    return node_pb2.TaskKey(namespace=key[0], run=key[1], task=key[2], attempt=key[3])


def _proto_unit(key: tuple[str, str, bytes]) -> node_pb2.UnitKey:
    return node_pb2.UnitKey(namespace=key[0], run=key[1], unit=key[2])
