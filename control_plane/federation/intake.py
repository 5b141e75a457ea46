"""What agents say for good: the effects of their sequenced frames, and their own records.

A frame's effect on its run and the frame's number, in the agent's record, are stored in one transaction. So after any
crash the agent sends again exactly what had no effect yet. The one live session of a cluster is the one writer of its
record, apart from `keep`, which notes how the agent is; both write on the condition that nobody else did. A record
names the hub that has the session, so that all hubs know of all agents: each follows all records.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.federation.session import SessionOver
from control_plane.kinds import Kinds, writing
from control_plane.patience import persistently
from control_plane.runs import forms, messages
from control_plane.runs.driver import Runs
from control_plane.runs.writing import EventOf
from control_plane.store.base import Deleted, Listing, Stored
from control_plane.store.errors import Conflict, InvalidName
from control_plane.store.transaction import Operation
from wire.lines import run_of

_log = structlog.get_logger(__name__)


class Intake:
    """The agents' records by cluster, and what becomes of their frames.

    `roomier` is called with a cluster on which there may be more room for reservations than there was, `seen` with
    each record as it changes and the revision, `dropped` with a cluster whose record is gone.
    """

    def __init__(self, kinds: Kinds, runs: Runs, hub_id: bytes) -> None:
        self._kinds = kinds
        self._runs = runs
        self._hub_id = hub_id
        self._stored: dict[str, Stored[s.AgentRecord]] = {}  # as the sessions here last wrote or read them
        self._gateways: dict[str, str] = {}
        self._to_store: dict[str, cp.ClusterStatus] = {}
        self._open: set[str] = set()  # clusters with a session here
        self._to_close: dict[str, None] = {}
        self._something_to_store = asyncio.Event()
        self.roomier: Callable[[str], None] = lambda _: None
        self.seen: Callable[[s.AgentRecord, int], None] = lambda _record, _revision: None
        self.dropped: Callable[[str], None] = lambda _: None

    async def load(self) -> Listing[s.AgentRecord]:
        """What the hubs know of the agents. Returns what `follow` goes on from."""
        listing = await persistently(self._kinds.agents.list, None)
        for stored in listing.items:
            self._stored.setdefault(stored.value.cluster, stored)
            self._gateways[stored.value.cluster] = stored.value.gateway_address
        return listing

    async def follow(self, listing: Listing[s.AgentRecord]) -> None:
        """Follow all records, whichever hub writes them. Run by the hub as long as it lives."""
        async with self._kinds.agents.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    if isinstance(event, Deleted):
                        (cluster,) = event.key.names
                        self._gateways.pop(cluster, None)
                        self.dropped(cluster)
                    else:
                        self._gateways[event.value.cluster] = event.value.gateway_address
                        self.seen(event.value, event.revision)

    def gateways(self) -> dict[str, str]:
        """Where clusters can be dialled, as their agents said last."""
        return dict(self._gateways)

    def opened_at(self, cluster: str) -> int:
        """The revision of the record when it was last written or read here."""
        return self._stored[cluster].revision

    async def opened(self, hello: f.AgentHello, generation: int) -> s.AgentRecord:
        """The agent's record as it is for the session that this hello begins, however long the store is away.

        `generation` is that of its certificate.
        """
        return await persistently(lambda: self._opened(hello, generation), None)

    async def take(self, cluster: str, frame: f.SessionRequest) -> None:
        """Store the effect of a sequenced frame and its number, however long the store is away."""

        async def attempt() -> None:
            stored = self._stored[cluster]
            if stored.value.received >= frame.seq:
                return
            record = s.AgentRecord()
            record.CopyFrom(stored.value)
            record.received = frame.seq
            record.last_seen = time.time()
            number = self._kinds.agents.updating(stored.key, record, stored.revision)
            try:
                revision = await self._happened(cluster, frame, number)
            except Conflict:
                await self._reread(cluster, stored)
                raise
            self._stored[cluster] = Stored(stored.key, record, revision, stored.created)

        await persistently(attempt, None)

    async def delivered(self, assignment: m.Assignment) -> None:
        """A fragment that the agent has heard to be forgotten needs not be kept any longer."""
        if assignment.desired != m.DESIRED_STATE_FORGOTTEN:
            return
        fragment = assignment.fragment
        fragments = self._kinds.fragments

        async def attempt() -> None:
            stored = await fragments.get(fragments.key(fragment.cluster, fragment.namespace, fragment.run))
            if stored is not None and stored.value == assignment:
                await fragments.delete(stored.key, stored.revision)

        await persistently(attempt, None)

    async def forget(self, cluster: str) -> bool:
        """Delete an agent's record, and what was wanted of it; whether there was one."""

        async def attempt() -> bool:
            stored = await self._kinds.agents.get(self._kinds.agents.key(cluster))
            if stored is None:
                return False
            wanted = (await self._kinds.fragments.list(cluster)).items
            deletions = [self._kinds.fragments.deleting(each.key, each.revision) for each in wanted]
            await self._kinds.commit_in_turn([*deletions, self._kinds.agents.deleting(stored.key, stored.revision)])
            self._stored.pop(cluster, None)
            self._gateways.pop(cluster, None)
            return True

        return await persistently(attempt)

    def note(self, status: cp.ClusterStatus) -> None:
        """How an agent is, worth storing for a later hub."""
        self._to_store[status.name] = status
        self._something_to_store.set()

    def closed(self, cluster: str) -> None:
        """An agent has its session here no more."""
        self._open.discard(cluster)
        self._to_close[cluster] = None
        self._something_to_store.set()

    async def keep(self) -> None:
        """Store what was noted. Run by the hub as long as it lives."""
        while True:
            await self._something_to_store.wait()
            self._something_to_store.clear()
            noted, self._to_store = self._to_store, {}
            for status in noted.values():
                await persistently(lambda status=status: self._store_status(status), None)  # type: ignore[misc]
            closed, self._to_close = self._to_close, {}
            for cluster in closed:
                await persistently(lambda cluster=cluster: self._close(cluster), None)  # type: ignore[misc]

    async def _opened(self, hello: f.AgentHello, generation: int) -> s.AgentRecord:
        before = await self._kinds.agents.get(self._kinds.agents.key(hello.cluster))
        record = s.AgentRecord(cluster=hello.cluster, first_seen=time.time())
        if before is not None:
            record.CopyFrom(before.value)
            if record.log_id and record.log_id != hello.log_id:
                await self._log_lost(hello.cluster, before)
        if record.log_id != hello.log_id:
            record.received = 0
        record.log_id = hello.log_id
        record.generation = generation
        record.version = hello.version
        record.gateway_address = hello.gateway_address
        record.last_seen = time.time()
        record.hub = self._hub_id
        record.status.name = hello.cluster
        record.status.version = hello.version
        record.status.gateway_address = hello.gateway_address
        record.status.pid = hello.pid
        record.status.last_seen = record.last_seen
        await self._write(before, record)
        self._open.add(hello.cluster)
        return record

    async def _log_lost(self, cluster: str, before: Stored[s.AgentRecord]) -> None:
        """The coordinator has a new log: whatever it had begun under the old one is lost.

        What was made for it after its last session here had ended has never come to it, and is still to be begun.
        """
        for stored in (await self._kinds.fragments.list(cluster)).items:
            fragment = stored.value.fragment
            may_have_come = bool(before.value.hub) or stored.created < before.revision

            async def event_of(
                run: m.Run, fragment: m.Fragment = fragment, may_have_come: bool = may_have_come
            ) -> messages.Event:
                kept = forms.of_line(run, cluster, fragment.epoch).fragments.get(cluster)
                if kept is None or (kept.state == m.FRAGMENT_STATE_ASSIGNED and not may_have_come):
                    return messages.Progress(())
                return messages.LogLost(cluster, fragment.epoch, time.time())

            await self._runs.happen(fragment.namespace, run_of(fragment.run), event_of)

    async def _happened(self, cluster: str, frame: f.SessionRequest, number: Operation) -> int:
        """Let the frame have its effect, together with `number`; the revision of both."""
        try:
            match frame.WhichOneof("kind"):
                case "accepted":
                    said: f.FragmentAccepted | f.FragmentHeard | f.ReservationAnswer | m.FragmentStatus = frame.accepted
                case "heard":
                    said = frame.heard
                case "reservation":
                    said = frame.reservation
                case "freed":
                    self.roomier(cluster)  # first: if the commit's answer is lost, the frame does not come here again
                    return await self._kinds.commit([number])
                case "output" if frame.output.cluster == cluster:
                    said = frame.output
                case "ended" if frame.ended.cluster == cluster:
                    said = frame.ended
                case other:
                    _log.warning("a frame of an agent means nothing", cluster=cluster, kind=other)
                    return await self._kinds.commit([number])
            event_of = self._event_of(cluster, frame)
            return (await self._runs.happen(said.namespace, run_of(said.run), event_of, [number])).revision
        except InvalidName as error:
            _log.warning("a frame of an agent names no run", cluster=cluster, error=str(error))
            return await self._kinds.commit([number])

    def _event_of(self, cluster: str, frame: f.SessionRequest) -> EventOf:
        at = time.time()

        async def event(run: m.Run) -> messages.Event:
            match frame.WhichOneof("kind"):
                case "accepted":
                    return messages.FragmentAccepted(cluster, frame.accepted.epoch, at)
                case "reservation":
                    told = frame.reservation
                    return messages.Answered(cluster, told.epoch, told.reserved, told.reason, at)
                case "output":
                    return messages.OutputMade(frame.output, frame.seq)
                case "heard":
                    return messages.FragmentHeard(cluster, frame.heard.epoch)
                case _:
                    line = forms.of_line(run, cluster, frame.ended.epoch)
                    others = [part for name, part in line.fragments.items() if name != cluster]
                    last = all(part.state in forms.FRAGMENT_ENDED for part in others)
                    outputs = await self._runs.outputs(run, line) if last else []
                    return messages.FragmentEnded(frame.ended, frame.seq, at, tuple(outputs))

        return event

    async def _reread(self, cluster: str, before: Stored[s.AgentRecord]) -> None:
        """Another writer came first, of the run or of the record.

        If the record is of another log, or with another hub, this session is over.
        """
        there = await self._kinds.agents.get(before.key)
        if there is None or (there.value.log_id, there.value.hub) != (before.value.log_id, self._hub_id):
            raise SessionOver
        self._stored[cluster] = there

    async def _close(self, cluster: str) -> None:
        there = await self._kinds.agents.get(self._kinds.agents.key(cluster))
        if there is None or there.value.hub != self._hub_id or cluster in self._open:
            return
        record = s.AgentRecord()
        record.CopyFrom(there.value)
        record.hub = b""
        record.last_seen = time.time()
        await self._write(there, record)

    async def _store_status(self, status: cp.ClusterStatus) -> None:
        stored = self._stored.get(status.name)
        if stored is None or stored.value.hub != self._hub_id:
            return  # it is with another hub by now, which knows better
        record = s.AgentRecord()
        record.CopyFrom(stored.value)
        record.status.CopyFrom(status)
        record.last_seen = time.time()
        try:
            await self._write(stored, record)
        except Conflict:
            there = await self._kinds.agents.get(stored.key)
            if there is not None:
                self._stored[status.name] = there
            raise

    async def _write(self, before: Stored[s.AgentRecord] | None, record: s.AgentRecord) -> None:
        key = self._kinds.agents.key(record.cluster)
        revision = await self._kinds.commit([writing(self._kinds.agents, key, before, record)])
        self._stored[record.cluster] = Stored(key, record, revision, before.created if before else revision)
        self._gateways[record.cluster] = record.gateway_address
