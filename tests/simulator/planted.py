"""Bugs, planted into the production classes one at a time: a simulator that finds none of them proves nothing.

Each is a promise broken in a few lines, as somebody might break it: `PLANTED` has them by name, and `planted(name)`
is the time during which one is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator.actions import SendPeer
from cluster_agent.coordinator.cache import adopting
from cluster_agent.coordinator.clusters import early, offering, peers, receiving, spilling, telling
from cluster_agent.coordinator.clusters.records import GrantTaken
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes import reconciling, room
from cluster_agent.coordinator.runs import assigning
from cluster_agent.coordinator.runs.last_words import LastWords
from cluster_agent.coordinator.space import footprint, quotas, resting, stuck
from cluster_agent.coordinator.tasks import closing, committing, retrying
from cluster_agent.coordinator.units import damage, mending, rescuing
from cluster_agent.log import Batch, CoordinatorLog
from cluster_agent.log.batch import Sent
from cluster_agent.node import finishing
from cluster_agent.node.damage import Damages
from cluster_agent.nodes import door
from cluster_agent.peer.core import Heard, Peering
from cluster_agent.peer.dialling import Dialling
from cluster_agent.peer.peers import Peers
from control_plane.federation.agents import Agents
from control_plane.federation.intake import Intake
from control_plane.federation.replacing import Replacements
from control_plane.federation.session import AgentSession
from control_plane.runs import forms, replacing
from control_plane.runs.driver import Runs
from control_plane.runs.messages import Action, Replaced
from control_plane.runs.writing import RunWriter
from control_plane.store import transaction
from control_plane.store.etcd.errors import Uncertain
from simulator import audit
from wire.identity import Identity, Role
from wire.session.core import Session

Plant = Callable[[ExitStack], None]


def ack_before_the_write(stack: ExitStack) -> None:
    """A peer's message is acknowledged as it comes, and not when it is in the log."""
    heard = Peering.heard

    def hasty(self: Peering, path: int, frame: Any) -> Heard:
        found = heard(self, path, frame)
        for seq, _ in found.messages:
            self.durable(self.log_id, seq)
        return found

    _method(stack, Peering, "heard", hasty)


def hub_acks_before_it_stores(stack: ExitStack) -> None:
    """The hub acknowledges what an agent says before it is in etcd."""

    async def hasty(self: AgentSession) -> None:
        while True:
            frame = await self._taken.get()
            self._stored = frame.seq
            self._something.set()
            await self._office.take(self.cluster, frame)
            self._credits_owed += 1
            self._something.set()

    _method(stack, AgentSession, "_take", hasty)


def outbox_trimmed_on_send(stack: ExitStack) -> None:
    """What went onto the connection counts as heard."""
    ready = Session.ready

    def hasty(self: Session[Any]) -> list[tuple[int, Any]]:
        sent = ready(self)
        if sent:
            self.acked(sent[-1][0])
        return sent

    _method(stack, Session, "ready", hasty)


def gap_is_no_matter(stack: ExitStack) -> None:
    """What comes after a message that is missing is taken all the same."""

    def credulous(self: Session[Any], seq: int) -> bool:
        new = seq > self._received
        self._received = max(self._received, seq)
        return new

    _method(stack, Session, "received", credulous)


def duplicate_committed(stack: ExitStack) -> None:
    """A result counts whenever it comes, also that of an attempt that was given up, or of a task that is done."""

    def any_attempt(of: LiveRun | None, _node: str, task: bytes, _attempt: int) -> Any:
        return of.run.tasks.get(task) if of is not None and of.going else None

    _everywhere(stack, committing.current, any_attempt)


def records_after_the_messages(stack: ExitStack) -> None:
    """A grant leaves before its record is in the log: records are written with the next batch."""
    commit = CoordinatorLog.commit

    def lazy(self: CoordinatorLog, batch: Batch) -> list[Sent]:
        held = self.__dict__.pop("held", (b"", 0))
        self.__dict__["held"] = batch.records, batch.count
        return commit(self, replace(batch, records=held[0], count=held[1]))

    _method(stack, CoordinatorLog, "commit", lazy)


def grant_that_is_in_no_log(stack: ExitStack) -> None:
    """The receiver is granted a unit that the sender still thinks of as offered."""

    def forgetful(book: Any, of: Any, cluster: str, message: Any) -> None:
        found = offering._out(of, message.edge, message.unit, cluster)
        if found is not None:
            grant = offering.peer_pb2.PeerMessage.FromString(of.header)
            grant.grant.edge = message.edge
            grant.grant.unit = message.unit
            book.actions.append(SendPeer(cluster, grant.SerializeToString(), of.key))

    _everywhere(stack, offering.on_accept, forgetful)


def offer_executed_without_a_grant(stack: ExitStack) -> None:
    """The receiver takes an offer for a grant, also one that is withdrawn later."""
    on_offer = receiving.on_offer

    def hasty(book: Any, of: Any, cluster: str, message: Any) -> None:
        on_offer(book, of, cluster, message)
        edge = of.graph.edge_by_id.get(message.edge)
        incoming = of.run.incoming.get(message.unit.id)
        if edge is not None and incoming is not None and incoming.edges.get(edge.index) == receiving.ACCEPTED:
            book.commit(GrantTaken(of.key, edge.index, message.unit.id))

    _everywhere(stack, on_offer, hasty)


def step_closed_with_tasks_open(stack: ExitStack) -> None:
    """A step's counter closes it as soon as its producers are closed, whatever was consumed."""
    _everywhere(stack, closing._accounted, lambda *_: True)


def slot_leaks(stack: ExitStack) -> None:
    """A task that leaves its node leaves its processors taken."""
    give_room = room.give_room

    def leaky(nodes: Any, of: Any, task: Any) -> None:
        before = nodes[task.node].used_cpus
        give_room(nodes, of, task)
        nodes[task.node].used_cpus = before

    _everywhere(stack, give_room, leaky)


def epoch_not_checked(stack: ExitStack) -> None:
    """A fragment is taken anew whenever the hub names it, whatever its epoch."""
    on_assigned = assigning.on_assigned

    def credulous(book: Any, event: Any) -> None:
        proto = assigning.model_pb2.Fragment.FromString(event.fragment)
        known = book.lives.get(RunKey(proto.namespace, proto.run))
        if known is not None and proto.steps:
            known.graph.epoch = 0
        on_assigned(book, event)

    _handler(stack, on_assigned, credulous)


def effect_apart_from_its_number(stack: ExitStack) -> None:
    """The hub notes that it has had a frame before the frame has had its effect."""
    happened = Intake._happened

    async def apart(self: Intake, cluster: str, frame: f.SessionRequest, number: Any) -> int:
        revision = await self._kinds.commit([number])
        record = type(self._stored[cluster].value)()
        record.CopyFrom(self._stored[cluster].value)
        record.received = frame.seq
        self._stored[cluster] = replace(self._stored[cluster], value=record, revision=revision)
        nothing = self._kinds.agents.updating(number.key, record, revision)
        return await happened(self, cluster, frame, nothing)

    _method(stack, Intake, "_happened", apart)


def snapshot_that_is_old(stack: ExitStack) -> None:
    """A snapshot is that of the time before, and the records since are dropped all the same."""
    take_snapshot = CoordinatorLog.take_snapshot
    before: dict[bytes, bytes] = {}

    def stale(self: CoordinatorLog, body: bytes) -> None:
        take_snapshot(self, before.get(self.log_id, body))
        before[self.log_id] = body

    _method(stack, CoordinatorLog, "take_snapshot", stale)


def inventories_are_believed_equal(stack: ExitStack) -> None:
    """The hub does not compare what a connecting agent has with what is wanted of it."""

    def trusting(self: AgentSession, assignments: list[Any]) -> None:
        for assignment in assignments:
            self._delivered.put_nowait(assignment)

    _method(stack, AgentSession, "_want_all", trusting)


def nothing_goes_again(stack: ExitStack) -> None:
    """After a change of path, what the old one lost is not sent again."""
    again = Peering._again

    def once(self: Peering) -> None:
        if self._session._in_flight == 0 and not self.__dict__.get("been"):
            self.__dict__["been"] = True
            again(self)
        elif self._ready:
            self._session._connected = True

    _method(stack, Peering, "_again", once)


def retries_end_with_a_restart(stack: ExitStack) -> None:
    """An agent that starts again forgets the tasks that wait to be tried again."""
    _everywhere(stack, retrying.resume, lambda *_: None)


def mends_what_is_new(stack: ExitStack) -> None:
    """A hub that starts mends what it sees by runs that it has read before."""
    mend = Runs.mend

    async def late(self: Runs) -> None:
        listing = await self._kinds.runs.list()
        with mock.patch.object(self._kinds.runs, "list", mock.AsyncMock(return_value=listing)):
            await mend(self)

    _method(stack, Runs, "mend", late)


def answer_that_says_nothing(stack: ExitStack) -> None:
    """Who knows of a run only that it is over answers who is late, and has nothing to say."""

    def hasty(book: Any, of: Any, cluster: str, message: Any) -> None:
        if cluster not in of.graph.epochs and message.revision < of.graph.revision:
            book.actions.append(SendPeer(cluster, of.header, of.key))

    _everywhere(stack, peers._say_superseded, hasty)


def outputs_of_a_replaced_line_count(stack: ExitStack) -> None:
    """A run's outputs are all that any of its fragments has told of, also those that were replaced."""
    stack.enter_context(mock.patch.object(forms, "counts", lambda *_: True))


def who_comes_late_hears_of_no_line(stack: ExitStack) -> None:
    """A node that was away when a second line of a run began is not told that units of the other are its units too."""
    _everywhere(stack, adopting.joined, lambda *_: None)


def revoked_peer_is_heard(stack: ExitStack) -> None:
    """An agent knows who is revoked, and speaks to it all the same."""
    _method(stack, Peers, "_cut_off", lambda *_: None)
    _method(stack, Peers, "refusal", lambda *_: "")


def revoked_agent_keeps_its_session(stack: ExitStack) -> None:
    """The hub takes no new session of a revoked cluster, and leaves the one that there is."""
    _method(stack, Agents, "_cut_off", lambda self, _: self.changed())


def hub_is_believed_of_who_is_revoked(stack: ExitStack) -> None:
    """A revoked cluster is heard and spoken to, where that goes by a hub that does not know it yet."""
    relayed = Peers.relayed
    _method(stack, Peers, "relayed", lambda self, cluster, _, frame: relayed(self, cluster, sys.maxsize, frame))
    _method(stack, Dialling, "meant", lambda _, cluster: Identity(Role.AGENT, cluster))


def part_of_a_write_is_taken_for_all(stack: ExitStack) -> None:
    """A transaction whose answer was lost is taken for done once its first write is found."""

    async def hasty(kv: Any, operations: Any, uncertain: Uncertain) -> int | None:
        first = next((operation for operation in operations if operation.value is not None), None)
        return await transaction._written(kv, first, uncertain) if first is not None else None

    stack.enter_context(mock.patch.object(transaction, "_applied", hasty))


def hub_writes_over_what_another_has_written(stack: ExitStack) -> None:
    """A hub writes a run as it remembers it, whatever another hub has made of it since."""
    commit = RunWriter._commit

    async def blind(self: RunWriter, before: Any, batch: Any, *, certain: bool) -> int:
        there = await self._kinds.runs.get(before.key) if before is not None else None
        return await commit(self, replace(before, revision=there.revision) if there else before, batch, certain=certain)

    _method(stack, RunWriter, "_commit", blind)


def last_words_that_are_lost(stack: ExitStack) -> None:
    """A cluster that has ended its part does not tell the hub who has not heard all that it said."""
    _method(stack, LastWords, "of_end", lambda _, message: message)


def damage_that_is_not_told(stack: ExitStack) -> None:
    """A node drops what it finds damaged, and leaves it to whoever will miss it."""
    _method(stack, Damages, "found", lambda *_: None)


def room_that_is_not_told_again(stack: ExitStack) -> None:
    """The agent hears that a node's disk has less room, and never that it has more."""
    told = door.disk_told

    def gloomy(node: str, before: Any, now: Any) -> Any:
        return told(node, before, now) if now.disk_free < before.free else None

    stack.enter_context(mock.patch.object(door, "disk_told", gloomy))


def room_is_waited_for_in_vain(stack: ExitStack) -> None:
    """Who has units of ours is taken to free them, though it waits for all of them, and so for us."""
    stack.enter_context(mock.patch.object(Step, "awaits", ()))


def splits_are_in_the_way(stack: ExitStack) -> None:
    """A split that waits for its parts to be read keeps its place on the node from who reads them."""
    stack.enter_context(mock.patch.object(room, "SPLIT", "none"))
    stack.enter_context(mock.patch.object(audit, "SPLIT", "none"))


def room_of_a_window_is_given_twice(stack: ExitStack) -> None:
    """What reads a part is taken to give its room back, though the split fills it again."""
    gives_back = footprint.gives_back
    stack.enter_context(mock.patch.object(footprint, "gives_back", lambda of, task, *_: gives_back(of, task)))


def parts_that_nobody_frees(stack: ExitStack) -> None:
    """What a running task has made stays on a node that was away when it was to be freed."""
    reconcile = reconciling._reconcile_units

    def trusting(book: Any, of: Any, node: Any, here: set[bytes]) -> None:
        units = (of.run.units[each] for each in here & of.run.units.keys())
        kept = {unit.id for unit in units if not unit.uses and reconciling._being_made(of, node, unit.task)}
        reconcile(book, of, node, here - kept)

    _everywhere(stack, reconcile, trusting)


def full_disk_is_taken_for_a_large_result(stack: ExitStack) -> None:
    """A task that has met a full disk is taken to write as much as was free there, also for a quota."""

    def gloomy(of: LiveRun, task: Any) -> footprint.Likely:
        writes = footprint.writes(of, task)
        return footprint.Likely(0 if footprint.is_guess(of, task) else writes, writes, writes)

    _everywhere(stack, footprint.likely, gloomy)


def what_waits_for_a_quota_stays(stack: ExitStack) -> None:
    """A cluster keeps what it has no room for, though another one has."""
    _everywhere(stack, spilling.spill_bounded, lambda *_: None)
    _everywhere(stack, quotas.hold_back, lambda *_: False)


def nobody_says_that_nothing_moves(stack: ExitStack) -> None:
    """Each of two clusters that are at their quota waits for the other."""
    _everywhere(stack, resting.say, lambda *_, rests: None)


def nobody_says_that_it_has_ended(stack: ExitStack) -> None:
    """A cluster waits for one that has done its part of the run."""
    _everywhere(stack, telling.ended, lambda *_: [])


def line_of_what_has_stopped(stack: ExitStack) -> None:
    """A line with a part that has stopped is kept beside its replacement, and may be gone on with."""
    replaced = replacing.replaced

    def blind(run: m.Run, event: Replaced) -> list[Action]:
        seen = forms.copy_of(run)
        del seen.stopped[:]
        return replaced(seen, event)

    stack.enter_context(mock.patch.object(replacing, "replaced", blind))


def what_is_stranded_is_at_work(stack: ExitStack) -> None:
    """A task is taken to give space back soon, though its input has to be made again first."""
    _everywhere(stack, footprint.stranded, lambda *_: set())


def what_no_disk_has_taken_stays(stack: ExitStack) -> None:
    """What a task has made stays on its node though it is told to have failed, since the disk was full."""
    stack.enter_context(mock.patch.object(finishing, "_made", lambda *_: []))


def revoked_clusters_are_waited_for(stack: ExitStack) -> None:
    """What a revoked cluster had goes on to be kept for it, beside what replaces it."""
    _method(stack, Replacements, "_gone", lambda of, _: of._marks.overdue())


def parked_units_are_on_their_way(stack: ExitStack) -> None:
    """Tasks wait for a unit that is to be made again, and are taken to move, whatever holds the making back."""
    _everywhere(stack, stuck._is_judged, lambda *_: False)


def forgotten_with_the_fragment_before_it(stack: ExitStack) -> None:
    """What peers have said of a newer plan goes with the fragment that is forgotten."""
    forget = early.forget
    _everywhere(stack, forget, lambda book, name, *_: forget(book, name))


def what_was_short_stays_short(stack: ExitStack) -> None:
    """A run counts as waiting for disk though what waited has gone to another cluster."""
    _everywhere(stack, stuck._waits, lambda live: bool(live.short or live.unanswered))


def what_a_disk_shows_again_is_left(stack: ExitStack) -> None:
    """A node comes back with what was damaged and dropped before its power was lost, and nobody cares."""
    _everywhere(stack, rescuing._looked, lambda *_: None)


def line_counts_on_what_is_gone(stack: ExitStack) -> None:
    """A node says what of one line it could not give another, and nobody listens."""
    on_damaged = damage.on_damaged
    _handler(stack, on_damaged, lambda book, event: on_damaged(book, event) if event.digest else None)


def room_is_told_after_the_write(stack: ExitStack) -> None:
    """The queue hears that a cluster has room once that is stored, and not at all if the answer to that is lost."""
    happened = Intake._happened

    async def late(self: Intake, cluster: str, frame: Any, number: Any) -> int:
        told, self.roomier = self.roomier, lambda _: None
        try:
            revision = await happened(self, cluster, frame, number)
        finally:
            self.roomier = told
        if frame.HasField("freed"):
            told(cluster)
        return revision

    _method(stack, Intake, "_happened", late)


def results_that_came_late_are_waited_for(stack: ExitStack) -> None:
    """A task waits for an input though its result has come from the node that was given up."""
    _method(stack, LiveRun, "leave_parked", lambda *_: None)


def who_has_not_heard_of_a_line_has_lost_its_units(stack: ExitStack) -> None:
    """A node is asked for a unit by the name that it has in a line of which the node has yet to hear."""
    stack.enter_context(mock.patch.object(mending, "is_second", lambda _: False))


def units_without_bytes_may_go(stack: ExitStack) -> None:
    """Another cluster is taken to be done soon with what it was granted, also where nobody has the bytes."""
    _everywhere(stack, stuck._is_owed, lambda _book, live, _rest: bool(live.owed))


def damage_of_what_was_called_back_is_not_told(stack: ExitStack) -> None:
    """A node has forgotten a result by the time that it is acknowledged, and so what of it is damaged."""
    missing = Damages._missing

    def forgetful(self: Damages, key: Any, units: Any) -> list[bytes]:
        return missing(self, key, units if self._outbox.outputs(key) else ())

    _method(stack, Damages, "_missing", forgetful)


PLANTED: Mapping[str, Plant] = {
    plant.__name__: plant
    for plant in (
        ack_before_the_write,
        hub_acks_before_it_stores,
        outbox_trimmed_on_send,
        gap_is_no_matter,
        duplicate_committed,
        records_after_the_messages,
        grant_that_is_in_no_log,
        offer_executed_without_a_grant,
        step_closed_with_tasks_open,
        slot_leaks,
        epoch_not_checked,
        effect_apart_from_its_number,
        snapshot_that_is_old,
        inventories_are_believed_equal,
        nothing_goes_again,
        retries_end_with_a_restart,
        mends_what_is_new,
        answer_that_says_nothing,
        outputs_of_a_replaced_line_count,
        who_comes_late_hears_of_no_line,
        revoked_peer_is_heard,
        revoked_agent_keeps_its_session,
        hub_is_believed_of_who_is_revoked,
        part_of_a_write_is_taken_for_all,
        hub_writes_over_what_another_has_written,
        last_words_that_are_lost,
        damage_that_is_not_told,
        room_that_is_not_told_again,
        room_is_waited_for_in_vain,
        splits_are_in_the_way,
        room_of_a_window_is_given_twice,
        parts_that_nobody_frees,
        full_disk_is_taken_for_a_large_result,
        what_waits_for_a_quota_stays,
        nobody_says_that_nothing_moves,
        nobody_says_that_it_has_ended,
        line_of_what_has_stopped,
        revoked_clusters_are_waited_for,
        what_is_stranded_is_at_work,
        what_no_disk_has_taken_stays,
        parked_units_are_on_their_way,
        forgotten_with_the_fragment_before_it,
        what_was_short_stays_short,
        what_a_disk_shows_again_is_left,
        line_counts_on_what_is_gone,
        room_is_told_after_the_write,
        results_that_came_late_are_waited_for,
        who_has_not_heard_of_a_line_has_lost_its_units,
        units_without_bytes_may_go,
        damage_of_what_was_called_back_is_not_told,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While this is entered the bug is there."""
    with ExitStack() as stack:
        PLANTED[name](stack)
        yield


def _method(stack: ExitStack, owner: type, name: str, instead: Any) -> None:
    stack.enter_context(mock.patch.object(owner, name, instead))


def _everywhere(stack: ExitStack, function: Any, instead: Any) -> None:
    """In whichever module of the agent it is known, by its name."""
    for module in [each for name, each in sys.modules.items() if name.startswith("cluster_agent.coordinator")]:
        for name, value in list(vars(module).items()):
            if value is function:
                stack.enter_context(mock.patch.object(module, name, instead))


def _handler(stack: ExitStack, function: Any, instead: Any) -> None:
    """Where the core looks up who handles an event."""
    from cluster_agent.coordinator import core

    for event, handler in core._HANDLERS.items():
        if handler is function:
            stack.enter_context(mock.patch.dict(core._HANDLERS, {event: instead}))  # type: ignore[arg-type]
