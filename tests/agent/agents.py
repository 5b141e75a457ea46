"""An agent without the real core: log, driver, doors and link around a core that only notes what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from bdw_fed.v1 import control_plane_pb2, model_pb2
from bdw_fed.v1.federation_pb2 import PeerDirectory
from bdw_fed.v1.node_pb2_grpc import add_NodeServiceServicer_to_server
from bdw_fed.v1.peer_pb2_grpc import add_PeerServiceServicer_to_server
from cluster_agent.bundles import BundleCache
from cluster_agent.coordinator.actions import Action, Append, SendPeer
from cluster_agent.coordinator.driver import Driver
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import ClockRead, DesiredChanged, Event, FragmentAssigned, PeerSaid, RunKey
from cluster_agent.coordinator.records import AnyRecord
from cluster_agent.coordinator.runs.records import DesiredSet
from cluster_agent.events import EventBus
from cluster_agent.link.hub import HubLink, LinkConfig
from cluster_agent.log import CoordinatorLog
from cluster_agent.membership.revoked import REVOKED, Revoked
from cluster_agent.nodes.door import NodeDoor
from cluster_agent.peer.peers import Peers
from cluster_agent.peer.server import PeerDoor
from tests.agent.federation import Members, Served, until
from wire.identity import Credentials, Role
from wire.versions import PEERS, SESSION, Versions

Script = Callable[[Event], list[Action]]


class NotingCore:
    """Notes events; keeps which runs it holds, as the real one does."""

    def __init__(self, script: Script = lambda event: []) -> None:
        self.script = script
        self.events: list[Event] = []
        self.held: dict[tuple[str, str], tuple[int, int]] = {}
        self.states: dict[str, model_pb2.FragmentState.ValueType] = {}

    def handle_all(self, events: Iterable[Event], now: float) -> list[Action]:
        actions: list[Action] = []
        for event in events:
            if isinstance(event, ClockRead):
                continue
            self.events.append(event)
            if isinstance(event, FragmentAssigned):
                taken = model_pb2.Fragment.FromString(event.fragment)
                self.held[taken.namespace, taken.run] = taken.epoch, event.desired
                actions.append(Append(DesiredSet(RunKey(taken.namespace, taken.run), event.desired, f"{taken.epoch}")))
            elif isinstance(event, DesiredChanged):
                self.held.pop((event.run.namespace, event.run.run), None)
                actions.append(Append(DesiredSet(event.run, event.desired, "")))
            actions += self.script(event)
        return actions

    def apply(self, record: AnyRecord) -> None:
        assert isinstance(record, DesiredSet)
        key = record.run.namespace, record.run.run
        if record.desired == model_pb2.DESIRED_STATE_FORGOTTEN:
            self.held.pop(key, None)
        elif record.reason:
            self.held[key] = int(record.reason), record.desired

    def resume(self, now: float) -> list[Action]:
        return []

    def status(self, run: RunKey) -> model_pb2.FragmentStatus:
        if (run.namespace, run.run) not in self.held:
            raise KeyError(run)
        state = self.states.get(run.run, model_pb2.FRAGMENT_STATE_RUNNING)
        return model_pb2.FragmentStatus(namespace=run.namespace, run=run.run, state=state)

    def tasks(self, run: RunKey) -> list[control_plane_pb2.TaskInfo]:
        return [control_plane_pb2.TaskInfo(step="clean", state="running")]

    def measured(self) -> tuple[list[model_pb2.MeasuredLink], list[model_pb2.MeasuredStep]]:
        return [], []

    def cached(self, namespace: str, step: str) -> list[control_plane_pb2.CachedStep]:
        return [control_plane_pb2.CachedStep(step=f"{namespace}/{step}")]

    def stored(self) -> list[control_plane_pb2.NamespaceStored]:
        return []

    def pools(self) -> list[control_plane_pb2.PoolStatus]:
        return []

    def reserved(self) -> list[control_plane_pb2.HeldSlots]:
        return []

    def inventory(self) -> list[tuple[str, str, int, int]]:
        return [(*key, *value) for key, value in self.held.items()]

    def snapshot(self) -> bytes:
        raise AssertionError("too few records for a snapshot")

    def restore(self, snapshot: bytes, /) -> None:
        raise AssertionError("there is no snapshot")

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Agent:
    """A running one."""

    cluster: str
    core: NotingCore
    log: CoordinatorLog
    intake: Intake
    bus: EventBus
    link: HubLink
    nodes: NodeDoor
    peers: Peers
    node_door: str
    peer_door: Served

    def said_by(self, cluster: str) -> list[bytes]:
        return [event.message for event in self.core.events if isinstance(event, PeerSaid) and event.cluster == cluster]

    async def heard(self, cluster: str, messages: list[bytes]) -> None:
        """Returns when exactly these have come from the peer."""
        await until(lambda: len(self.said_by(cluster)) >= len(messages))
        assert self.said_by(cluster) == messages

    def tell_peer(self, cluster: str, *messages: bytes) -> None:
        """Have the core send these: it is scripted to do so on a desired state that nobody has."""
        self.core.script = lambda event: (
            [SendPeer(cluster, message, event.run) for message in messages] if isinstance(event, Push) else []
        )
        self.intake.submit(Push(RunKey("default", "push"), 0))


class Push(DesiredChanged, frozen=True, tag=True):
    """What makes the scripted core speak."""


@asynccontextmanager
async def running(
    members: Members,
    state: Path,
    cluster: str,
    hubs: list[str],
    *,
    core: NotingCore | None = None,
    peer_port: int = 0,
    durability: str = "process",
    known: PeerDirectory | None = None,
    shown: Credentials | None = None,
    session: Versions = SESSION,
    to_peers: Versions = PEERS,
) -> AsyncIterator[Agent]:
    """All of an agent but the core, wired as `cluster_agent.agent` does it. It speaks these versions."""
    core = core or NotingCore()
    credentials = shown or members.issue(Role.AGENT, cluster)
    log = CoordinatorLog.open(state, durability=durability)
    intake = Intake()
    bus = EventBus(cluster, log.log_id)
    link = HubLink(LinkConfig(cluster, hubs, credentials, "test", session), core, log, intake, bus)
    bundles = BundleCache(state / "bundles", link.calls.pull_bundle)
    revoked = Revoked(credentials, intake, log.meta(REVOKED))
    nodes = NodeDoor(
        cluster,
        intake,
        bundles,
        revoked,
        link.calls.certify,
        data_root="/data",
        durability=durability,
        changed=link.nodes_changed,
    )
    peers = Peers(cluster, log, intake, bus, credentials, link.relay, revoked, versions=to_peers)
    driver = Driver(core, log, intake, bus, nodes, peers, link, link, durability=durability)
    driver.start()
    peers.directory(known or PeerDirectory(peers=[PeerDirectory.Peer(cluster=name) for name in ("a", "b", "c")]))

    def node_service(server: grpc.aio.Server) -> None:
        add_NodeServiceServicer_to_server(nodes, server)

    def peer_service(server: grpc.aio.Server) -> None:
        add_PeerServiceServicer_to_server(PeerDoor(cluster, peers), server)

    peer_door = Served(credentials, peer_service, peer_port)
    async with Served(credentials, node_service) as node_door, peer_door:
        link.connect(peers, bundles, nodes.logs, nodes.statuses, peer_door.address)
        tasks = [asyncio.create_task(part) for part in (driver.run(), peers.run(), link.run())]
        try:
            yield Agent(cluster, core, log, intake, bus, link, nodes, peers, node_door.address, peer_door)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    log.close()
    for error in ended:
        if isinstance(error, Exception):
            raise error
