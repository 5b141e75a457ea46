"""Tasks that have formed and whose result may be known: they wait for a moment, instead of being executed.

    a task forms ─┬─▶ remembered here (`remembering`) ──────────────────────────────▶ Recalled
                  ├─▶ in our cache ─▶ its node looks for the contents ──────────────┐
                  └─▶ peers are asked ─▶ Found ─▶ a node of ours fetches the units ─┴▶ Reused
                        └─ nobody knows, or not in time, or something is not there ─▶ the task is ready

Peers are asked for two things: what a lost cluster has done of a run that has begun again, and what is in their caches.
For the latter a task waits at most a tenth of the time in which it would be executed, as far as that is known, and
nothing is fetched that takes longer than that. Nothing of this waiting is in the log: after a restart the tasks that
are ready are looked up once more. Whoever is asked answers from the log alone, or once a node has looked.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import answering, caching, recalling, records, remembering
from cluster_agent.coordinator.cache.searches import Sought
from cluster_agent.coordinator.clusters import estimating, loads, routing
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import ContentsTaken, FetchEnded, Place, RunKey
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.space import quotas
from cluster_agent.coordinator.state import DONE, READY, Cached, Task, Unit
from cluster_agent.coordinator.tasks import tracing
from cluster_agent.coordinator.tasks.committing import consume
from cluster_agent.coordinator.tasks.making import make
from cluster_agent.coordinator.units import fetching, mending
from cluster_agent.coordinator.units.infos import info_of
from cluster_agent.orders.messages import Output
from wire.digests import unit_id

_PART: Final = 0.1  # of its execution a task waits for peers' caches
_MOST_ASKED: Final = 8  # peers
_UNMEASURED: Final = 1.0  # seconds that a task is taken to take of which nothing is known
_LEAST_PATIENCE: Final = 1.0  # for bytes that are on their way
_NODE_PATIENCE: Final = 60.0  # for a node to read what it has


def recall(book: Book, live: LiveRun) -> None:
    """See to the tasks that have formed: what is known of them, and the bytes of those that must be executed."""
    lacking: list[bytes] = []
    while live.formed:
        task = live.run.tasks.get(live.formed.popleft())
        if task is None or task.state != READY or task.remake or task.id in live.sought or not live.going:
            continue
        needed = recalling.recall(book, live, task) if live.run.remembers else None
        if needed is not None:
            lacking += needed
        elif not _begin(book, live, live.graph.steps[task.step], task):
            lacking += [unit for ids in live.inputs(task) for unit in ids]
    if lacking and live.run.remembers:
        mending.miss(book, live, lacking)


def _begin(book: Book, live: LiveRun, step: Step, task: Task) -> bool:
    """Whether the task waits."""
    looks = step.cache_key and not step.fresh and not quotas.is_short(book, live)
    key = caching.key_of(live, step, task) if looks else b""
    entry = caching.find(book, key, step.cache_age) if key else None
    if entry is None:
        return _ask_peers(book, live, step, task, key)
    sought = _wait(book, live, task, key, _NODE_PATIENCE)
    sought.node, sought.executed = entry.node, entry.executed
    sought.outputs = caching.named(task.id, entry.outputs)
    book.tell(entry.node, commands.take(live.key, task.id, sought.outputs))
    return True


def _wait(book: Book, live: LiveRun, task: Task, key: bytes, patience: float) -> Sought:
    live.unready(task)
    sought = live.sought[task.id] = Sought(key, book.now + patience)
    book.wake(sought.due, "seek", live.key, task.id)
    return sought


def _ask_peers(book: Book, live: LiveRun, step: Step, task: Task, key: bytes) -> bool:
    """Whether somebody was asked."""
    contents = (remembering.contents(live, task) or b"") if step.index in live.run.orphans else b""
    if not (key or contents):
        return False
    peers = [peer for cluster in live.graph.epochs if (peer := book.peers.get(cluster)) is not None and peer.reachable]
    patience = book.policy.recall_patience
    if not contents:
        near = sorted(peers, key=lambda peer: (peer.distance, peer.cluster))[:_MOST_ASKED]
        patience = _PART * _seconds(book, step)
        peers = [peer for peer in near if 2 * peer.latency < patience and (peer.can_dial or peer.relays)]
    if not peers:
        return False
    sought = _wait(book, live, task, key, patience)
    sought.contents = contents
    for peer in peers:
        sought.asked.add(peer.cluster)
        message = peer_pb2.PeerMessage.FromString(live.header)
        message.sought.task, message.sought.contents, message.sought.key = task.id, contents, key
        book.say(live, peer.cluster, message.SerializeToString())
    return True


def _seconds(book: Book, step: Step) -> float:
    """How long a task of the step is executed, as far as that is known."""
    ours = loads.expected_of(book, step)
    if ours.weight > 0:
        return ours.mean
    return max((fit.mean for fit in step.measured.values()), default=0.0) or _UNMEASURED


# ------------------------------------------------------------------------------------------------ what is found


def on_taken(book: Book, event: ContentsTaken) -> None:
    """A node has looked for contents of the cache."""
    live = book.lives.get(event.run)
    if live is None:
        return
    answering.taken(book, live, event)
    sought = live.sought.get(event.task)
    if sought is None or sought.node != event.node or sought.fetches:
        return
    if event.found:
        _reuse(book, live, live.run.tasks[event.task], sought)
        return
    caching.lost(book, sought.key, event.node)
    _execute(book, live, event.task)


def on_found(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Found) -> None:
    """A peer knows the result of a task, or does not."""
    sought = live.sought.get(message.task)
    if sought is None or cluster not in sought.asked or sought.fetches:
        return
    sought.asked.discard(cluster)
    task = live.run.tasks[message.task]
    step = live.graph.steps[task.step]
    if _serves(book, step, task, sought, cluster, message):
        outputs = tuple(Output(each.port, each.index, info_of(each.unit)) for each in message.outputs)
        if sought.outputs is None:
            sought.outputs, sought.executed = outputs, message.executed
        if sought.outputs == outputs:
            for each in message.outputs:
                if each.location.address:
                    at = each.location
                    sought.places[each.unit.id] = Place(cluster, at.node, at.address, at.server_name)
        if len(sought.places) == len(sought.outputs) and _fetch(book, live, step, task, sought):
            return
    if not sought.asked:
        settle(book, live, task.id)


def _serves(book: Book, step: Step, task: Task, sought: Sought, cluster: str, message: peer_pb2.Found) -> bool:
    """Whether what a peer knows is of use: of a cache all of it must be had, and sooner than by executing the task."""
    if not message.known or (not message.executed and not sought.contents):
        return False
    for each in message.outputs:
        if each.port not in step.ports or each.unit.id != unit_id(task.id, each.port, each.index):
            return False
    if not message.executed:
        return True
    if sought.outputs is not None or caching.too_old(book, message.executed, step.cache_age):
        return False
    size = sum(each.unit.size for each in message.outputs)
    there = all(each.location.address for each in message.outputs)
    return there and estimating.transfer_seconds(book, cluster, size) < _seconds(book, step)


def _fetch(book: Book, live: LiveRun, step: Step, task: Task, sought: Sought) -> bool:
    """Have a node of ours fetch all outputs from where they are. False without a node, or where they can't be."""
    outputs = sought.outputs or ()
    node = fetching.emptiest(book, sum(output.unit.size for output in outputs))
    peers = [book.peers.get(place.cluster) for place in sought.places.values()]
    if not node or not all(peer is not None and (peer.can_dial or peer.relays) for peer in peers):
        return False
    sought.fetches, sought.node = True, node
    for output in outputs:
        info = output.unit
        sought.lacking.add(info.id)
        live.sought_units[info.id] = task.id
        live.spurned.discard(info.id)
        unit = Unit(info.id, info.digest, info.size, info.task, info.origin, 0, info.name)
        book.tell(node, commands.fetch(live.key, unit, sought.places[info.id]))
    if not outputs:
        _reuse(book, live, task, sought)
        return True
    patience = _seconds(book, step) if sought.executed else book.policy.recall_patience
    sought.due = book.now + max(_LEAST_PATIENCE, patience)
    book.wake(sought.due, "seek", live.key, task.id)
    return True


def on_fetch_ended(book: Book, event: FetchEnded) -> None:
    """A fetch ended; some are of units whose task has not got its result yet."""
    live = book.lives.get(event.run)
    task = live.sought_units.get(event.unit) if live is not None else None
    if live is None or task is None:
        if live is None or event.unit not in live.spurned or event.unit in live.run.units:
            fetching.on_ended(book, event)
        return  # else it was freed on that node as it was given up
    sought = live.sought[task]
    if sought.node != event.node:
        return
    if event.error:
        settle(book, live, task)
        return
    del live.sought_units[event.unit]
    sought.lacking.discard(event.unit)
    if not sought.lacking:
        _reuse(book, live, live.run.tasks[task], sought)


def _reuse(book: Book, live: LiveRun, task: Task, sought: Sought) -> None:
    """The result is on a node of ours."""
    step = live.graph.steps[task.step]
    outputs = sought.outputs or ()
    key = sought.key if sought.executed else b""
    chosen = routing.routes(book, live, step, outputs, tracing.of_task(live, step, task))
    if key and sought.fetches:
        book.tell(sought.node, commands.keep(live.key, [output.unit.id for output in outputs]))
    book.commit(records.Reused(live.key, task.id, sought.node, outputs, chosen, key, sought.executed))
    caching.trim(book)
    data: dict[str, object] = {"units": len(outputs), "node": sought.node}
    if sought.fetches:
        data["from"] = sorted({place.cluster for place in sought.places.values()})
    book.publish(live, "task.cached" if key else "task.recalled", step.name, task.id, data)


def settle(book: Book, live: LiveRun, task_id: bytes) -> None:
    """Nothing more is waited for. What is known of it from before is taken without bytes: they are made if needed."""
    sought = live.sought[task_id]
    if sought.outputs is None or not sought.contents or sought.executed:
        _execute(book, live, task_id)
        return
    _forget(book, live, live.sought.pop(task_id))
    book.commit(records.ResultHeard(live.key, task_id, records.Made(sought.contents, sought.outputs)))
    task = live.run.tasks[task_id]
    needed = recalling.recall(book, live, task)
    if needed is None:  # what it reads was made again meanwhile, with other bytes
        live.make_ready(task)
        needed = [unit for ids in live.inputs(task) for unit in ids]
    book.touch(live)
    mending.miss(book, live, needed)


def _execute(book: Book, live: LiveRun, task_id: bytes) -> None:
    """Nobody knows the result: the task is ready."""
    _forget(book, live, live.sought.pop(task_id))
    task = live.run.tasks[task_id]
    live.make_ready(task)
    book.touch(live)
    if live.run.remembers:
        mending.miss(book, live, [unit for ids in live.inputs(task) for unit in ids])


def _forget(book: Book, live: LiveRun, sought: Sought) -> None:
    """What is fetched for a task is not wanted any more."""
    for output in (sought.outputs or ()) if sought.fetches else ():
        live.sought_units.pop(output.unit.id, None)
        live.spurned.add(output.unit.id)
        book.free(sought.node, live.key, output.unit.id)


def on_due(book: Book, run: RunKey, task: bytes) -> None:
    """A task has waited for long enough."""
    live = book.lives.get(run)
    sought = live.sought.get(task) if live is not None else None
    if live is not None and sought is not None and sought.due <= book.now:
        settle(book, live, task)


def node_gone(book: Book, node: str) -> None:
    """A node that was asked has gone: it answers no more."""
    for live in book.lives.going.values():
        for task in [task for task, sought in live.sought.items() if sought.node == node]:
            settle(book, live, task)
        answering.node_gone(book, live, node)


# ------------------------------------------------------------------------------------------------------ records


def apply_heard(book: Book, record: records.ResultHeard) -> None:
    """See records."""
    remembering.heard(book, book.lives[record.run], record.task, record.made)


def apply_reused(book: Book, record: records.Reused) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    step = live.graph.steps[task.step]
    state = live.run.steps[step.index]
    live.sought.pop(task.id, None)
    live.unready(task)
    task.state = DONE
    if live.run.known:
        remembering.executed(book, live, task.id, record.node)
    maker = tracing.of_task(live, step, task)
    task.outputs = make(book, live, step, task.id, record.outputs, record.routes, maker, node=record.node)
    state.done += 1
    state.reused += 1
    if record.key:
        state.cached += 1
        outputs = [caching.plain(output) for output in record.outputs]
        former = book.state.cached.get(record.key)
        taken = 1 + (former.taken if former is not None else 0)
        entry = Cached(record.run.namespace, step.definition, record.node, record.executed, outputs, taken)
        caching.put(book, record.key, entry)
    consume(book, live, step, task)
    if not state.open:
        live.check.add(step.index)
    book.touch(live)
