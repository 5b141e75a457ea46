"""The session of two coordinators, pure: which path its frames take, and what is said again on which occasion.

    pushed (in our log) ─▶ session ─▶ flush ─▶ frames on the best path that is ready
    frame heard on any path ─▶ session ─▶ messages, once and in order ─▶ (in our log) durable ─▶ ack

A *path* is one of the streams between the two (a positive number, the newest highest) or the hub's relay (`RELAY`). A
path is ready once a hello has come on it. Frames are taken from any path, and sent on the best one that is ready: the
newest stream, else the relay. Changing the path needs no ceremony, since the session drops what it has seen.

A stream loses nothing while it lives. The relay may: a gap is answered with a hello, which is a request for what its
ack does not cover; and what went by the relay and finds no answer is asked about after a while (`due`, `overdue`).

What is not acked can be sent to any later life of the peer, for numbers are never used twice within our log. A peer
whose log is new learns from our hello where to begin. Should a peer know a higher number than we ever gave (our log
was lost in part: the machine went down, or an old copy was restored), ours are numbered on from there (`renumber`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bdw_fed.v1.model_pb2 import SignedEpochs
from bdw_fed.v1.peer_pb2 import PeerFrame, PeerMessage
from wire.session.core import OutOfOrderError, Session
from wire.versions import PEERS, Versions

RELAY = 0
WINDOW = 2_048
FRAME_BYTES = 64 * 1024
_HELLO_SECONDS = 0.25  # after which a relayed hello is said again at first: the peer may just have come
_DATA_SECONDS = 2.0  # after which relayed messages without an ack are asked about at first
_MOST_SECONDS = 30.0


@dataclass
class Heard:
    """What a frame brought."""

    messages: list[tuple[int, bytes]] = field(default_factory=list)
    """New ones with their numbers: serialised PeerMessages."""
    acked: int | None = None
    """The peer has everything up to here: news."""
    renumber: int | None = None
    """The outbox must be numbered from here on; `renumbered` tells when it is."""
    lost: int = 0
    """So many of the peer's messages, which we had acked, are not in our log: it lost its end."""
    new_peer: bool = False
    """The peer's log is another than it was: what it knew of us is gone."""
    shown: dict[int, SignedEpochs] = field(default_factory=dict)
    """Of these messages, by number, what is believed only if the hub has signed it."""
    load: bytes = b""
    """How busy the peer is: a serialised Load. Empty if it did not say."""


class Peering:
    """One end. `outbox` holds what the peer has not acked, `known` its log and what of it is durable here."""

    def __init__(
        self,
        cluster: str,
        log_id: bytes,
        *,
        outbox: Sequence[tuple[int, bytes]] = (),
        next_seq: int = 1,
        known: tuple[bytes, int] | None = None,
        window: int = WINDOW,
        frame_bytes: int = FRAME_BYTES,
        versions: Versions = PEERS,
    ) -> None:
        self._cluster = cluster
        self._log_id = log_id
        self._peer_log_id, self._durable = known or (b"", 0)
        self._window = window
        self._frame_bytes = frame_bytes
        self._versions = versions
        self._session = Session[bytes].restore(outbox, next_seq, self._durable, window=window)
        self._former: set[bytes] = set()
        self._ready: set[int] = set()
        self._asked: set[int] = set()  # paths on which a hello of ours has no answer yet
        self._hellos: dict[int, bool] = {}  # path -> whether it answers; to be sent
        self._relay_up = False
        self._ack_due = False
        self._renumbering = False
        self._deadline: float | None = None
        self._patience = 1  # how many times the first wait it takes until the next hello
        self._load: bytes = b""  # our newest, not said yet

    # ------------------------------------------------------------------------------------------ asked by others

    @property
    def log_id(self) -> bytes:
        """The peer's log as we know it; empty before we do."""
        return self._peer_log_id

    @property
    def direct(self) -> bool:
        """Whether a stream is ready."""
        return any(path != RELAY for path in self._ready)

    @property
    def unacked(self) -> int:
        """How many messages the peer has not acked."""
        return self._session.unacked

    @property
    def due(self) -> float | None:
        """When to call `overdue`, unless something is heard before."""
        return self._deadline

    # ------------------------------------------------------------------------------------------ what happens

    def pushed(self, messages: Sequence[tuple[int, bytes]]) -> None:
        """These are in our outbox now."""
        for seq, body in messages:
            given = self._session.push(body)
            assert given == seq, f"the log gave {seq}, the session {given}"
        if not self._ready:
            self._try_relay()

    def load(self, load: bytes) -> None:
        """How busy we are now, a serialised Load: goes with the next frame, or by itself once there is a path."""
        self._load = load
        if not self._ready:
            self._try_relay()

    def durable(self, log_id: bytes, seq: int) -> None:
        """The peer's messages up to `seq` are in our log."""
        if log_id == self._peer_log_id and seq > self._durable:
            self._durable = seq
            self._ack_due = True

    def renumbered(self, messages: Sequence[tuple[int, bytes]], following: int) -> None:
        """Our outbox has these numbers from now on."""
        received = self._session.received_seq
        self._session = Session[bytes].restore(messages, following, received, window=self._window)
        self._renumbering = False
        self._again()

    def opened(self, path: int) -> None:
        """We opened a stream: say hello. (On one that the peer opened, its hello comes.)"""
        self._ask(path)

    def closed(self, path: int) -> None:
        """A stream ended; what was under way in it goes again another way."""
        self._forget(path)

    def relay_up(self) -> None:
        """Frames can go through the hub now."""
        self._relay_up = True
        if not self._ready and (self._session.unacked or self._peer_log_id):
            self._ask(RELAY)

    def relay_down(self) -> None:
        """They can't."""
        self._relay_up = False
        self._forget(RELAY)

    def overdue(self, now: float) -> None:
        """Nothing was heard for what went by the relay: ask."""
        if self._deadline is None or now < self._deadline:
            return
        self._deadline = None
        self._patience = min(2 * self._patience, 256)
        if self._relay_up:
            self._hellos.setdefault(RELAY, False)
            self._asked.add(RELAY)

    def heard(self, path: int, frame: PeerFrame) -> Heard:
        """A frame came. The caller has made sure that it is the peer's."""
        heard = Heard()
        if frame.log_id != self._peer_log_id:
            if frame.log_id in self._former:
                return heard  # a late word of an earlier life
            if not frame.hello:
                self._ask(path)
                return heard
            self._meet(frame, heard)
        elif frame.hello and frame.seq > self._session.received_seq + 1:
            heard.lost = frame.seq - 1 - self._session.received_seq
            self._begin_after(frame.seq - 1)
        if frame.peer_log_id == self._log_id:
            self._take_ack(frame.ack, heard)
        if frame.HasField("load"):
            heard.load = frame.load.SerializeToString()
        if frame.hello:
            self._take_hello(path, frame)
        elif path not in self._ready:
            self._ask(path)
        if frame.messages:
            self._take_messages(path, frame, heard)
        return heard

    def flush(self, now: float, lamport: int = 0) -> list[tuple[int, PeerFrame]]:
        """The frames to send now, with their paths: hellos, then what is ready, in as few frames as fit."""
        frames = [(path, self._hello(answer, lamport)) for path, answer in self._hellos.items()]
        self._hellos.clear()
        best = max(self._ready, default=None)
        if best is not None:
            told = self._data(lamport)
            if not told and (self._ack_due or self._load):
                told.append(self._frame(lamport))
                self._ack_due = False
            if self._load:
                told[0].load.ParseFromString(self._load)
                self._load = b""
            frames += [(best, frame) for frame in told]
        self._set_deadline(now)
        return frames

    # ------------------------------------------------------------------------------------------ how

    def _meet(self, frame: PeerFrame, heard: Heard) -> None:
        if self._peer_log_id:
            self._former.add(self._peer_log_id)
            heard.new_peer = True
        self._peer_log_id = frame.log_id
        self._begin_after(max(0, frame.seq - 1))

    def _begin_after(self, seq: int) -> None:
        self._session.resume_after(seq)
        self._durable = seq

    def _take_ack(self, ack: int, heard: Heard) -> None:
        if self._renumbering:
            return
        if ack >= self._session.next_seq:
            self._renumbering = True
            self._session.disconnected()
            heard.renumber = ack + 1
        elif self._session.acked(ack):
            heard.acked = ack
            self._deadline = None
            self._patience = 1

    def _take_hello(self, path: int, frame: PeerFrame) -> None:
        if path == RELAY and not self._relay_up:
            return
        self._ready.add(path)
        self._asked -= {path, RELAY}
        self._deadline = None
        if not frame.answer:
            self._hellos[path] = True
        self._again()

    def _take_messages(self, path: int, frame: PeerFrame, heard: Heard) -> None:
        for seq, message in enumerate(frame.messages, frame.seq):
            try:
                new = self._session.received(seq)
            except OutOfOrderError:
                self._ask(path)
                return
            if new:
                heard.messages.append((seq, message.SerializeToString()))
                if message.HasField("superseded"):
                    heard.shown[seq] = message.superseded.table
            else:
                self._ack_due = True  # our ack was lost

    def _ask(self, path: int) -> None:
        if path not in self._asked:
            self._asked.add(path)
            self._hellos.setdefault(path, False)

    def _try_relay(self) -> None:
        if self._relay_up:
            self._ask(RELAY)

    def _forget(self, path: int) -> None:
        before = max(self._ready, default=None)
        self._ready.discard(path)
        self._asked.discard(path)
        self._hellos.pop(path, None)
        if not self._ready:
            self._session.disconnected()
            self._asked.discard(RELAY)
            if self._session.unacked:
                self._try_relay()
        elif before == path:
            self._again()

    def _again(self) -> None:
        """What is not acked goes again, on the path that is the best now."""
        if self._ready and not self._renumbering:
            self._session.reconnected(self._acked)

    @property
    def _acked(self) -> int:
        return self._session.next_seq - 1 - self._session.unacked

    def _set_deadline(self, now: float) -> None:
        """When to ask, should nothing be heard: only the relay loses things."""
        if not self.direct and RELAY in self._asked:
            wait = _HELLO_SECONDS
        elif not self.direct and RELAY in self._ready and self._session.unacked:
            wait = _DATA_SECONDS
        else:
            self._deadline = None
            self._patience = 1
            return
        if self._deadline is None:
            self._deadline = now + min(wait * self._patience, _MOST_SECONDS)

    def _frame(self, lamport: int) -> PeerFrame:
        return PeerFrame(
            ack=self._durable,
            log_id=self._log_id,
            peer_log_id=self._peer_log_id,
            cluster=self._cluster,
            protocol=self._versions.newest,
            protocol_min=self._versions.oldest,
            lamport=lamport,
        )

    def _hello(self, answer: bool, lamport: int) -> PeerFrame:
        frame = self._frame(lamport)
        frame.hello = True
        frame.answer = answer
        frame.seq = self._acked + 1
        return frame

    def _data(self, lamport: int) -> list[PeerFrame]:
        frames = []
        size = self._frame_bytes
        for seq, body in self._session.ready():
            if size + len(body) > self._frame_bytes:
                frame = self._frame(lamport)
                frame.seq = seq
                frames.append(frame)
                size = 0
            frame.messages.append(PeerMessage.FromString(body))
            size += len(body)
        if frames:
            self._ack_due = False
        return frames
