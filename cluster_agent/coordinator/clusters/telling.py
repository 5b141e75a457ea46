"""What others are told of this cluster: the peers how busy we are, the hub what was measured here.

    a batch ends ─▶ our load, if it changed much ─▶ TellLoad ─▶ frames to the clusters that may send us units
    a heartbeat ─▶ `measured` ─▶ the hub, for plans and for people

A cluster is told at once when our load has changed much, but on the mean at most five times a second; and now and then
while anything happens here at all.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator.actions import TellLoad
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import early
from cluster_agent.coordinator.clusters.loads import Here, Telling, figures, here, link_from, slots
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes.tainting import begins
from cluster_agent.coordinator.space.disks import all_full

_EVERY: Final = 0.2  # seconds, on the mean
_AT_ONCE: Final = 3.0  # so often before the mean counts
_ALMOST: Final = 0.99  # once more, but for rounding
_ANYWAY_EVERY: Final = 2.0  # seconds
_MUCH: Final = 0.25  # of the processors, or of what was wanted before


def look_after(book: Book) -> None:
    """At the end of a batch: tell whoever listens, if there is something to tell."""
    listeners = book.lives.listeners
    if not listeners:
        return
    loads = book.loads
    loads.here = None  # the batch has changed much since it was counted
    ours = here(book)
    due = float("inf")
    for cluster in listeners:
        telling = loads.telling.get(cluster)
        if telling is None:
            telling = loads.telling[cluster] = Telling(_AT_ONCE, book.now)
        allowance = min(_AT_ONCE, telling.allowance + (book.now - telling.at) / _EVERY)
        if not _is_news(telling, ours) and book.now < telling.at + _ANYWAY_EVERY:
            continue
        if allowance < _ALMOST:
            due = min(due, book.now + (1.0 - allowance) * _EVERY)
        else:
            loads.telling[cluster] = Telling(allowance - 1.0, book.now, ours.wanted, ours.cpus)
            message = _load(book, cluster, ours, _listened(book, cluster))
            book.actions.append(TellLoad(cluster, message.SerializeToString()))
    if due < (loads.wake_at or float("inf")):
        loads.wake_at = due
        book.wake(due, "load")


def tell(book: Book, cluster: str) -> None:
    """Our load is news to a cluster, whether it listens or not."""
    message = _load(book, cluster, here(book), _listened(book, cluster))
    book.actions.append(TellLoad(cluster, message.SerializeToString()))


def on_due(book: Book) -> None:
    """It may be time to tell somebody; the end of the batch sees to it."""
    book.loads.wake_at = None


def _is_news(telling: Telling, ours: Here) -> bool:
    if telling.cpus != ours.cpus or (telling.wanted < ours.cpus) != (ours.wanted < ours.cpus):
        return True
    return abs(ours.wanted - telling.wanted) >= _MUCH * max(ours.cpus, telling.wanted)


def _listened(book: Book, cluster: str) -> dict[str, tuple[LiveRun, Step]]:
    """The steps of which the cluster may send us units, by definition."""
    return {
        step.definition: (live, step)
        for live in book.lives.listeners.get(cluster, {}).values()
        for step in live.graph.concerned
        if step.free and step.here
    }


def _load(book: Book, cluster: str, ours: Here, steps: dict[str, tuple[LiveRun, Step]]) -> peer_pb2.Load:
    """Our load as it is told to a cluster."""
    load = peer_pb2.Load(
        number=int(book.now * 1000), cpus=ours.cpus, cpus_wanted=ours.wanted, mean_seconds=ours.mean_seconds
    )
    for definition, (live, step) in steps.items():
        load.steps.add(
            definition=definition,
            slots=slots(book, live, step) if begins(book, step) and not all_full(book) else 0.0,
            queued=ours.queued.get(definition, 0),
            busy=ours.busy.get(definition, 0),
            warm=book.pools.workers(definition),
            measured=_step(book, definition),
        )
    load.link.CopyFrom(_link(book, cluster))
    load.resting.extend(early.run_name(key) for key in book.resting)
    load.ended.extend(ended(book, cluster))
    return load


def ended(book: Book, cluster: str) -> list[str]:
    """The runs that rest on a cluster, as it says, and whose part here has ended well."""
    told = book.loads.peers.get(cluster)
    known = [(name, book.state.runs.get(name)) for name in told.load.resting] if told is not None else []
    return [name for name, run in known if run is not None and run.state == model_pb2.FRAGMENT_STATE_SUCCEEDED]


def _link(book: Book, cluster: str) -> model_pb2.MeasuredLink:
    """What was measured of the link from a cluster, beside what is declared."""
    link = link_from(book, cluster)
    fit = link.line.fit(book.now)
    latency, bandwidth = figures(book, cluster)
    waiting = sum(
        live.run.units[fetch.unit].size
        for live in book.lives.going.values()
        for fetch in live.fetches.values()
        if fetch.crossing
        and (incoming := live.run.incoming.get(fetch.unit)) is not None
        and incoming.cluster == cluster
    )
    return model_pb2.MeasuredLink(
        from_cluster=cluster,
        to_cluster=book.cluster,
        fixed_seconds=fit.fixed,
        bandwidth=1.0 / max(fit.per_byte, 1e-12),
        weight=fit.weight,
        age=book.now - link.line.at if fit.weight else 0.0,
        declared_latency=latency,
        declared_bandwidth=bandwidth,
        waiting_bytes=waiting,
    )


def _step(book: Book, definition: str) -> model_pb2.MeasuredStep:
    """What was measured of a definition's tasks here; its weight is 0 if nothing was."""
    tasks = book.loads.measured.steps.get(definition)
    if tasks is None:
        return model_pb2.MeasuredStep(definition=definition, cluster=book.cluster)
    fit = tasks.fit(book.now)
    return model_pb2.MeasuredStep(
        definition=definition,
        cluster=book.cluster,
        fixed_seconds=fit.fixed,
        seconds_per_byte=fit.per_byte,
        mean_seconds=fit.mean,
        weight=fit.weight,
        age=book.now - tasks.at if fit.weight else 0.0,
        start_seconds=book.pools.start_seconds(definition),
    )


def measured(book: Book) -> tuple[list[model_pb2.MeasuredLink], list[model_pb2.MeasuredStep]]:
    """What was measured here of the links to this cluster, and of the tasks of steps that leave a choice."""
    known = book.loads.measured
    return [_link(book, cluster) for cluster in sorted(known.links)], [
        _step(book, name) for name in sorted(known.steps)
    ]
