"""All peers of this cluster: their sessions, the streams that carry them, and the hub where there is no stream.

    driver ─ pushed, durable, flush ─▶ Peering (core) ─ frames ─▶ stream or hub
    stream, hub ─ frames ─▶ Peering ─ messages ─▶ intake (marked with their numbers) ─▶ driver

A stream is opened when it is first wanted: a fragment names the peer, something is to be said to it, or it has spoken
through the hub; then it is kept open (see `dialling`). Until it is there, and whenever it is not, the hub relays. Peers
of which neither can dial the other have their stream over a relay process, where the topology has one for them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from bdw_fed.v1.control_plane_pb2 import PeerPath
from bdw_fed.v1.federation_pb2 import PeerDirectory
from bdw_fed.v1.membership_pb2 import SignedRevocations
from bdw_fed.v1.model_pb2 import SignedEpochs
from bdw_fed.v1.peer_pb2 import PeerFrame
from cluster_agent.coordinator.intake import Intake, Mark
from cluster_agent.coordinator.messages import PeerLoad, PeerSaid
from cluster_agent.coordinator.ports import peer as named
from cluster_agent.events import EventBus
from cluster_agent.log import CoordinatorLog
from cluster_agent.membership.revoked import Revoked
from cluster_agent.peer.client import dial
from cluster_agent.peer.core import RELAY, Peering
from cluster_agent.peer.dialling import Dial, Dialling
from cluster_agent.peer.stream import FrameQueue
from cluster_agent.relay.doors import RelayDoors
from wire import epochs
from wire.identity import Credentials, Identity, Role
from wire.signing import SignatureError
from wire.versions import PEERS, Versions

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Peer:
    cluster: str
    session: Peering
    streams: dict[int, FrameQueue] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Peers:
    """The carrier of what peers say to each other. `relay` sends a frame to an agent through the hub.

    `learned` hears what the hub says about the other clusters. `doors` lead over relays. Who is `revoked` has no
    stream, and what we know of that is the first that is said on each. `dial` keeps a stream open (see `client`).
    `versions` are those that we speak.
    """

    def __init__(
        self,
        cluster: str,
        log: CoordinatorLog,
        intake: Intake,
        bus: EventBus,
        credentials: Credentials,
        relay: Callable[[Identity, PeerFrame], None],
        revoked: Revoked,
        learned: Callable[[PeerDirectory], None] = lambda _: None,
        doors: RelayDoors | None = None,
        dial: Dial = dial,
        versions: Versions = PEERS,
    ) -> None:
        self._cluster = cluster
        self._log_id = log.log_id
        self._intake = intake
        self._bus = bus
        self._credentials = credentials
        self._relay = relay
        self._revoked = revoked
        revoked.listeners.append(self._cut_off)
        self._learned = learned
        self._dialling = Dialling(cluster, credentials, revoked, doors, dial)
        self._versions = versions
        self._relay_up = False
        self._peers: dict[str, _Peer] = {}
        self._dirty: dict[_Peer, None] = {}  # in the order in which they were told of
        self._members: frozenset[str] = frozenset()
        self._paths = itertools.count(RELAY + 1)
        self._restore(log)

    async def run(self) -> None:
        """Keep the streams that we open, until cancelled."""
        try:
            await self._dialling.run(self)
        finally:
            for peer in self._peers.values():
                if peer.timer is not None:
                    peer.timer.cancel()

    # ------------------------------------------------------------------------------- the driver's side

    def pushed(self, destination: str, messages: Sequence[tuple[int, bytes]]) -> None:
        """These are in the outbox now."""
        peer = self._peer(destination.removeprefix("peer/"))
        peer.session.pushed(messages)
        self._dialling.want(peer.cluster)
        self._dirty[peer] = None

    def load(self, cluster: str, load: bytes) -> None:
        """Tell a cluster how busy we are: goes with what is sent anyway, and gives way to what is newer."""
        peer = self._peer(cluster)
        peer.session.load(load)
        self._dialling.want(peer.cluster)
        self._dirty[peer] = None

    def durable(self, source: str, log_id: bytes, seq: int) -> None:
        """What the peer said up to `seq` is in the log."""
        peer = self._peer(source.removeprefix("peer/"))
        peer.session.durable(log_id, seq)
        self._dirty[peer] = None

    def renumbered(self, destination: str, messages: Sequence[tuple[int, bytes]], following: int) -> None:
        """The outbox has these numbers now."""
        peer = self._peer(destination.removeprefix("peer/"))
        peer.session.renumbered(messages, following)
        self._send(peer)

    def flush(self) -> None:
        """Send what the tick made ready."""
        dirty, self._dirty = self._dirty, {}
        for peer in dirty:
            self._send(peer)

    # ------------------------------------------------------------------------------- the link's side

    def directory(self, directory: PeerDirectory) -> None:
        """How the others are reached, as the hub says."""
        self._revoked.take(directory.revocations, "hub")
        self._learned(directory)
        self._members = frozenset(peer.cluster for peer in directory.peers)
        self._dialling.know(directory)

    def expect(self, clusters: Iterable[str]) -> None:
        """There will be something to say to these."""
        for cluster in clusters:
            if cluster != self._cluster:
                self._peer(cluster)
                self._dialling.want(cluster)

    def relay_up(self) -> None:
        """The hub takes frames."""
        self._relay_up = True
        for peer in self._peers.values():
            peer.session.relay_up()
            self._send(peer)

    def relay_down(self) -> None:
        """It does not."""
        self._relay_up = False
        for peer in self._peers.values():
            peer.session.relay_down()
            self._send(peer)

    def relayed(self, cluster: str, generation: int, frame: PeerFrame) -> None:
        """A frame of `cluster` came through the hub, which vouches for that. Dropped if there is no room for it.

        `generation` is that of the certificate that the hub was shown: it may not know yet that this is revoked, for it
        has lost its store, say, and we have heard it of another hub.
        """
        if cluster == self._cluster or frame.cluster != cluster:
            _log.warning("a relayed frame is not its sender's", sender=cluster, frame_says=frame.cluster)
            return
        if not self.knows(cluster):
            _log.warning("a relayed frame is of a cluster that we have no topology with", sender=cluster)
            return
        if refusal := self.refusal(Identity(Role.AGENT, cluster, generation)):
            _log.warning("a relayed frame is refused", sender=cluster, reason=refusal)
            return
        if unspoken := self.unspoken(frame):
            _log.warning("a relayed frame is not understood", sender=cluster, reason=unspoken)
            return
        if frame.messages and self._intake.full:
            return
        peer = self._peer(cluster)
        self._dialling.want(peer.cluster)
        self._take(peer, RELAY, frame)

    # ------------------------------------------------------------------------------- the streams' side

    def knows(self, cluster: str) -> bool:
        """Whether some topology has the cluster and us, as the hub said last."""
        return cluster in self._members

    def opened(self, cluster: str, queue: FrameQueue, *, by_us: bool) -> int:
        """A stream to or from `cluster` is there; its frames go into `queue`. Returns its path."""
        path = next(self._paths)
        peer = self._peer(cluster)
        peer.streams[path] = queue
        queue.revoke(self._revoked.signed)
        if by_us:
            peer.session.opened(path)
            self._send(peer)
        return path

    def closed(self, cluster: str, path: int) -> None:
        """It ended."""
        peer = self._peer(cluster)
        del peer.streams[path]
        peer.session.closed(path)
        self._send(peer)

    async def heard(self, cluster: str, path: int, frame: PeerFrame) -> None:
        """A frame came on it. Returns when there is room for another."""
        self._take(self._peer(cluster), path, frame)
        await self._intake.room()

    def told(self, cluster: str, revocations: SignedRevocations) -> None:
        """It has passed a list of revocations on."""
        self._revoked.take(revocations, cluster)

    def refusal(self, identity: Identity) -> str:
        """Why this member may not open a stream; empty = it may."""
        return self._revoked.refusal(identity)

    def unspoken(self, frame: PeerFrame) -> str:
        """Why a frame is not understood; empty = it is. What is in it must not be acked then: it would be lost."""
        theirs = Versions(frame.protocol_min or frame.protocol, frame.protocol)
        if self._versions.common(theirs) is None:
            spoken = f"{frame.cluster} speaks version {theirs} of what peers say, {self._cluster} {self._versions}"
            return f"{spoken}: upgrade the older of the two"
        if any(message.WhichOneof("kind") is None for message in frame.messages):
            return f"{frame.cluster} says what {self._cluster} does not know: upgrade {self._cluster}"
        return ""

    def is_direct(self, cluster: str) -> bool:
        """Whether a stream to the peer is in use."""
        return self._peer(cluster).session.direct

    def paths(self) -> list[PeerPath]:
        """How each peer that we have to do with is reached just now."""
        found = []
        for cluster, peer in sorted(self._peers.items()):
            over = self._dialling.over(cluster)
            path = "none"
            if peer.session.direct:
                path = "relay" if over else "direct"
            elif self._relay_up:
                path = "hub"
            found.append(PeerPath(cluster=cluster, path=path, relay=over if path == "relay" else ""))
        return found

    # ------------------------------------------------------------------------------- how

    def _cut_off(self, clusters: set[str]) -> None:
        """These are revoked: their streams end. All others are told."""
        for peer in self._peers.values():
            for queue in list(peer.streams.values()):
                if peer.cluster in clusters:
                    queue.close()
                else:
                    queue.revoke(self._revoked.signed)
        self._dialling.look()

    def _restore(self, log: CoordinatorLog) -> None:
        """The sessions as the log has them; the log is not read again, for the driver may be writing it."""
        received = log.received()
        for name in {*log.destinations(), *received}:
            kind, _, cluster = name.partition("/")
            if kind != "peer":
                continue
            session = Peering(
                self._cluster,
                self._log_id,
                outbox=log.outbox(name),
                next_seq=log.next_seq(name),
                known=received.get(name),
                versions=self._versions,
            )
            self._peers[cluster] = _Peer(cluster, session)
            if name in received or session.unacked:
                self._dialling.want(cluster)

    def _peer(self, cluster: str) -> _Peer:
        peer = self._peers.get(cluster)
        if peer is None:
            peer = self._peers[cluster] = _Peer(cluster, Peering(self._cluster, self._log_id, versions=self._versions))
            if self._relay_up:
                peer.session.relay_up()
        return peer

    def _take(self, peer: _Peer, path: int, frame: PeerFrame) -> None:
        heard = peer.session.heard(path, frame)
        self._bus.witness(frame.lamport)
        source, log_id = named(peer.cluster), peer.session.log_id
        for seq, message in heard.messages:
            believed = seq not in heard.shown or self._is_signed(peer.cluster, heard.shown[seq])
            said = PeerSaid(peer.cluster, message) if believed else None
            self._intake.submit(said, Mark(source, log_id, seq))
        if heard.load and not self._intake.full:
            self._intake.submit(PeerLoad(peer.cluster, log_id, heard.load))
        if heard.acked is not None:
            self._intake.acked(source, heard.acked)
        if heard.renumber is not None:
            _log.warning("our log lost its end: a peer has later messages of it", peer=peer.cluster)
            self._intake.renumber(source, heard.renumber)
        if heard.new_peer:
            _log.warning("a peer's state is new: what it knew of our runs is gone", peer=peer.cluster)
        if heard.lost:
            _log.warning("our log lost messages that a peer has sent", peer=peer.cluster, messages=heard.lost)
        self._send(peer)

    def _is_signed(self, cluster: str, shown: SignedEpochs) -> bool:
        """Whether the hub says what this peer says that it does."""
        try:
            epochs.check(shown, self._credentials.ca, now=time.time())
        except SignatureError as error:
            _log.warning(
                "a peer says that a run goes on without us, and can't show that", peer=cluster, error=str(error)
            )
            return False
        return True

    def _send(self, peer: _Peer) -> None:
        loop = asyncio.get_running_loop()
        for path, frame in peer.session.flush(loop.time(), self._bus.lamport):
            if path == RELAY:
                self._relay(self._dialling.meant(peer.cluster), frame)
            elif (stream := peer.streams.get(path)) is not None:
                stream.put(frame)
        due = peer.session.due
        if peer.timer is not None and (due is None or peer.timer.when() != due):
            peer.timer.cancel()
            peer.timer = None
        if due is not None and peer.timer is None:
            peer.timer = loop.call_at(due, self._overdue, peer)

    def _overdue(self, peer: _Peer) -> None:
        peer.timer = None
        peer.session.overdue(asyncio.get_running_loop().time())
        self._send(peer)
