"""Fragments that the hub assigns: a newer one replaces what there was of its run, the same one again changes nothing.

What peers said of a run before its fragment came was kept, and is heard when it has come. A fragment that contradicts
itself is answered with a failure, since no state can be made of it.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import federation_pb2, model_pb2
from cluster_agent.coordinator import reading
from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import adopting, remembering
from cluster_agent.coordinator.clusters import early, loads, peers, spilling
from cluster_agent.coordinator.clusters.ways import EdgeState
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import FragmentAssigned, PeersKnown, RunKey
from cluster_agent.coordinator.nodes import commands, placement, tainting
from cluster_agent.coordinator.runs import ending, records, reserving, timing
from cluster_agent.coordinator.space import quotas, stuck
from cluster_agent.coordinator.state import Known, Part, Run, StepState
from cluster_agent.coordinator.units import clearing
from cluster_agent.orders.messages import Failure
from wire.lines import begins_with

_RUNNING: Final = int(model_pb2.FRAGMENT_STATE_RUNNING)
_ATTEMPTS_A_REVISION: Final = 10_000  # more than any task has
_UNWANTED: Final = (ending.WANT_CANCELLED, ending.WANT_RETAINED, ending.WANT_FINISHED, ending.WANT_FORGOTTEN)


def on_assigned(book: Book, event: FragmentAssigned) -> None:
    """The hub wants this fragment here."""
    proto = model_pb2.Fragment.FromString(event.fragment)
    key = RunKey(proto.namespace, proto.run)
    if event.desired == reserving.WANT_RESERVED:
        reserving.on_order(book, proto, event)
        return
    live = book.lives.get(key)
    if live is not None and proto.epoch <= live.graph.epoch:
        if proto.epoch == live.graph.epoch and live.run.desired != event.desired:
            ending.want(book, live, event.desired, "")
        if proto.epoch == live.graph.epoch:
            _say_accepted(book, key, proto.epoch, proto.revision)
        return
    if live is None and event.desired in _UNWANTED:
        reserving.forget(book, key)
        _never_was(book, proto, event.desired)
        return
    try:
        reading.read(event.fragment, book.cluster)
    except ValueError as error:
        _refuse(book, proto, str(error))
        return
    if live is not None:
        known = remembering.remembered(live)
        for node in book.nodes:
            book.tell(node, commands.end_run(key, remembering.kept_on(known, node)))
    elif (other := remembering.beside(book, key)) is not None:
        adopting.begin(book, other.key, key, remembering.remembered(other))
    book.commit(records.FragmentTaken(event.fragment, event.desired))
    _say_accepted(book, key, proto.epoch, proto.revision)
    live = book.lives[key]
    for node in book.nodes:
        book.tell(node, commands.members([live.graph]))
    placement.expect_nodes(book, live)
    timing.begin(book, live)
    stuck.begin(book, live)
    tainting.watch(book, live.graph.steps)
    book.publish(live, "run.started", "", b"", {"workflow": live.graph.workflow, "epoch": live.graph.epoch})
    if (said := book.state.early.get(early.run_name(key))) is not None:
        book.commit(records.EarlyHeard(key))
        refused = sorted(set(said.refused) & live.graph.epochs.keys())
        if refused:
            what = f"{', '.join(refused)} had said more of the run than is kept before its fragment came"
            ending.fail(
                book, live, Failure("flooded", f"{what} ({book.policy.early_bytes >> 20} MiB): submit it again")
            )
        for cluster, message in early.said(said):
            peers.hear(book, cluster, message)
    if event.desired in _UNWANTED:
        ending.want(book, live, event.desired, "")


def _say_accepted(book: Book, key: RunKey, epoch: int, revision: int) -> None:
    accepted = federation_pb2.FragmentAccepted(namespace=key.namespace, run=key.run, epoch=epoch, revision=revision)
    book.actions.append(SendHub("accepted", accepted.SerializeToString()))


def _refuse(book: Book, proto: model_pb2.Fragment, why: str) -> None:
    why = f"the fragment for {book.cluster} cannot be executed: {why}"
    _say_ended(book, proto, model_pb2.FRAGMENT_STATE_FAILED, why)


def _never_was(book: Book, proto: model_pb2.Fragment, desired: int) -> None:
    """The run was cancelled before we heard of it, or we have forgotten it already."""
    if desired == ending.WANT_CANCELLED:
        _say_ended(book, proto, model_pb2.FRAGMENT_STATE_CANCELLED, "")
    elif desired == ending.WANT_FORGOTTEN:
        ending.forget_unheard(book, RunKey(proto.namespace, proto.run), proto.revision)


def _say_ended(book: Book, proto: model_pb2.Fragment, state: model_pb2.FragmentState.ValueType, why: str) -> None:
    status = model_pb2.FragmentStatus(
        namespace=proto.namespace, run=proto.run, cluster=book.cluster, epoch=proto.epoch, state=state
    )
    if why:
        status.failures.add(cluster=book.cluster, kind="internal", message=why)
    book.actions.append(SendHub("ended", status.SerializeToString()))


def on_peers(book: Book, event: PeersKnown) -> None:
    """The hub's directory of the other clusters."""
    if event.directory != book.state.directory:
        before = book.quotas
        book.commit(records.DirectoryLearned(event.directory))
        if book.quotas != before:
            quotas.changed(book)
        loads.declared_again(book)
        tainting.noted(book)
        on_taints(book)


def on_taints(book: Book) -> None:
    """What may be begun here is something else than before."""
    spilling.spill_all(book)
    for live in book.lives.values():
        book.touch(live)


def apply_taken(book: Book, record: records.FragmentTaken) -> None:
    """See records."""
    graph = reading.read(record.fragment, book.cluster)
    key = RunKey(graph.namespace, graph.run)
    old = book.lives.get(key)
    revisions_before = graph.revision - begins_with(graph.run)
    attempts_before = _ATTEMPTS_A_REVISION * revisions_before  # our log of them may be lost, and our nodes go on
    known: dict[bytes, Known] = {}
    ways: dict[str, dict[bytes, str]] = {}
    before = old or remembering.beside(book, key)
    if old is not None:  # so that no late word of its attempts is taken for one of ours
        followed = any(part.follow for part in old.run.parts)  # by tasks that we may not have heard of
        attempts = [task.attempt for task in old.run.tasks.values()]
        attempts_before = max([*attempts, old.run.attempts_before, int(followed)])
        known, ways = remembering.remembered(old), remembering.ways_of(old, graph)
        ending.drop(book, old)
    elif before is not None:
        known, ways = remembering.remembered(before), remembering.ways_of(before, graph)
    run = Run(
        key,
        record.fragment,
        record.desired,
        _RUNNING,
        [StepState() for _ in graph.steps],
        [EdgeState(went=ways.get(edge.id, {})) for edge in graph.edges],
        [Part(step, index, path, size) for step, index, path, size in graph.parts],
    )
    run.attempts_before = attempts_before
    run.elapsed = old.run.elapsed if old is not None and old.going else 0.0  # one that has ended is tried again
    run.known = known
    run.orphans = remembering.orphans(before, graph) if before is not None else []
    run.remembers = bool(known or ways or run.orphans)
    live = LiveRun(run, graph)
    live.pending_parts.extend(range(len(run.parts)))
    live.check.update(range(len(graph.steps)))
    name = ending.run_name(key.namespace, key.run)
    book.state.runs[name] = run
    book.lives.take(live)
    clearing.begin(book, key)
    reserving.claim(book, live)
    for step in graph.steps:
        book.stirred[live, step.index] = None
    book.touch(live)


def apply_early_heard(book: Book, record: records.EarlyHeard) -> None:
    """See records."""
    early.forget(book, early.run_name(record.run))


def apply_directory(book: Book, record: records.DirectoryLearned) -> None:
    """See records."""
    book.state.directory = record.directory
    read_directory(book)


def read_directory(book: Book) -> None:
    """Make the directory ready for questions."""
    directory = federation_pb2.PeerDirectory.FromString(book.state.directory)
    book.peers = {peer.cluster: peer for peer in directory.peers}
    book.no_execute = tuple(directory.no_execute)
    book.quotas = {quota.namespace: quota.storage for quota in directory.quotas}
