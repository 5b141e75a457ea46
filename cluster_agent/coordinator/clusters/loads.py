"""How busy this cluster is, how busy the others say they are, and what was measured of their links and our tasks.

    tasks, fetches, words ─▶ measured      PeerLoad ─▶ what a peer said last      ─▶ routing

None of it is durable, and nothing waits for it: news ages (`Told.trust`), and where there is none routing makes do with
what was planned. Runs whose steps leave no choice cost nothing here. What the others are told of us: see `telling`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator.clusters.measured import Fit, Line, Link, Measured, declared
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import PeerLoad
from cluster_agent.orders.messages import Result

if TYPE_CHECKING:
    from cluster_agent.coordinator.book import Book

UNMEASURED: Final = Fit(0.1, 0.0, 0.1, 0.0)  # a task, before anybody has seen one: nothing much moves for a guess
_UNDECLARED: Final = (0.0, 10e6)  # latency and bandwidth
_TRUST_HALVES: Final = 4.0  # seconds,
_TASKS_HALVE: Final = 4.0  # or tasks, where these take longer
_REORDERED: Final = 5.0  # seconds that an older word may come late by


@dataclass(slots=True)
class Here:
    """This cluster's load: processors, those that tasks have or wait for, and seconds of work in these."""

    cpus: float = 0.0
    wanted: float = 0.0
    work: float = 0.0
    queued: dict[str, int] = field(default_factory=dict)  # by definition
    busy: dict[str, int] = field(default_factory=dict)

    @property
    def mean_seconds(self) -> float:
        """Of a task, by the processors that it takes."""
        return self.work / self.wanted if self.wanted else 0.0

    def add(self, step: Step, count: int, seconds: float) -> None:
        """So many more tasks of the step wait here."""
        self.queued[step.definition] = self.queued.get(step.definition, 0) + count
        self.wanted += step.cpus * count
        self.work += step.cpus * count * seconds

    def leave(self, step: Step, seconds: float) -> None:
        """A task of the step ends."""
        busy = self.busy.get(step.definition, 0)
        if busy and step.placed:
            self.busy[step.definition] = busy - 1
            self.wanted -= step.cpus
            self.work -= step.cpus * seconds


@dataclass(slots=True)
class Told:
    """What a peer said last, and when we heard it."""

    heard: float
    log_id: bytes
    load: peer_pb2.Load
    steps: dict[str, peer_pb2.StepLoad]
    sent: dict[tuple[LiveRun, int], int]  # (run, step) -> units that we had sent there when we heard it
    coming: float  # bytes that had not arrived there, with those that we have sent since
    coming_at: float

    def trust(self, now: float) -> float:
        """From 1 for what was just heard towards 0."""
        return float(0.5 ** ((now - self.heard) / max(_TRUST_HALVES, _TASKS_HALVE * self.load.mean_seconds)))


@dataclass(slots=True)
class Telling:
    """What a listener was told and when, and how often it might be told at once then."""

    allowance: float
    at: float
    wanted: float = -1.0
    cpus: float = -1.0


class Loads:
    """Ours, the peers', and what was measured."""

    def __init__(self) -> None:
        self.measured = Measured()
        self.peers: dict[str, Told] = {}
        self.telling: dict[str, Telling] = {}
        self.here: Here | None = None  # of this batch, with what was decided in it
        self.wake_at: float | None = None


# ------------------------------------------------------------------------------------------------- measuring


def tasks_of(book: Book, step: Step) -> Line:
    """What tasks of the step take here."""
    known = book.loads.measured.steps.get(step.definition)
    if known is None:
        prior = step.measured.get(book.cluster) or next(iter(step.measured.values()), UNMEASURED)
        known = book.loads.measured.steps[step.definition] = Line(prior.fixed, prior.per_byte, guessed=not prior.weight)
    return known


def expected_of(book: Book, step: Step) -> Fit:
    """What a task of the step is expected to take here: as measured or planned; else what it takes at a peer."""
    ours = tasks_of(book, step).fit(book.now)
    if ours.weight > 0 or step.measured:
        return ours
    said = [told.steps[step.definition].measured for told in book.loads.peers.values() if step.definition in told.steps]
    best = max(said, key=lambda each: each.weight, default=None)
    return ours if best is None or not best.weight else fit_of(best)


def fit_of(said: model_pb2.MeasuredStep) -> Fit:
    """What a peer has measured."""
    return Fit(said.fixed_seconds, said.seconds_per_byte, said.mean_seconds, said.weight)


def link_from(book: Book, cluster: str) -> Link:
    """What was measured of the link from another cluster."""
    known = book.loads.measured.links.get(cluster)
    if known is None:
        known = book.loads.measured.links[cluster] = Link(*figures(book, cluster))
    return known


def figures(book: Book, cluster: str) -> tuple[float, float]:
    """Declared latency and bandwidth of the link to another cluster."""
    peer = book.peers.get(cluster)
    if peer is None:
        return _UNDECLARED
    return peer.latency, peer.bandwidth or _UNDECLARED[1]


def observe_task(book: Book, step: Step, result: Result) -> None:
    """A task of a step that leaves a choice has been executed here."""
    tasks_of(book, step).observe(result.bytes_in, result.seconds, book.now)


def observe_word(book: Book, cluster: str, seconds: float) -> None:
    """A word to another cluster and its answer took so long."""
    known = book.loads.measured.words.get(cluster)
    if known is None:
        known = book.loads.measured.words[cluster] = Line(figures(book, cluster)[0], 0.0)
    known.observe(0, seconds / 2, book.now)


def declared_again(book: Book) -> None:
    """The directory may say other figures of the links."""
    for cluster, link in book.loads.measured.links.items():
        link.line.prior = declared(*figures(book, cluster))


def link_to(book: Book, cluster: str) -> Fit:
    """What is known of the link to another cluster: it measures what comes to it."""
    told = book.loads.peers.get(cluster)
    if told is not None and told.load.link.weight > 0:
        link = told.load.link
        return Fit(link.fixed_seconds, 1.0 / max(link.bandwidth, 1.0), 0.0, link.weight)
    return Fit(*declared(*figures(book, cluster)), 0.0, 0.0)


def service(book: Book, live: LiveRun, step: Step) -> float:
    """How long a task of the step takes here, whatever its size."""
    if step.definition in book.loads.measured.steps:
        return expected_of(book, step).mean
    state = live.run.steps[step.index]
    if state.executed:
        return state.busy / state.executed
    planned = step.measured.get(book.cluster)
    return planned.mean if planned is not None else UNMEASURED.mean


# ------------------------------------------------------------------------------------------------- our load


def here(book: Book) -> Here:
    """Our load, counted once a batch."""
    found = book.loads.here
    if found is not None:
        return found
    found = book.loads.here = Here()
    found.cpus = sum(node.cpus for node in book.nodes.values() if node.open)
    for live in book.lives.going.values():
        for step in live.graph.concerned:
            queued, busy = len(live.ready[step.index]), live.assigned[step.index]
            if (queued or busy) and step.placed:
                found.add(step, queued + busy, service(book, live, step))
                found.queued[step.definition] -= busy
                found.busy[step.definition] = found.busy.get(step.definition, 0) + busy
    return found


def slots(book: Book, live: LiveRun, step: Step) -> float:
    """How many tasks of the step the connected nodes of this cluster execute at a time."""
    key = (live.key, step.index)
    known = book.slots_known.get(key)
    if known is None:
        known = 0.0
        for node in book.nodes.values():
            if node.open:
                fit = int(node.cpus / step.cpus + 1e-9)
                if step.memory:
                    fit = min(fit, node.memory // step.memory)
                most = book.pools.most(step.definition, node.name)
                known += fit if most is None else min(fit, most)
        if step.pool_max:
            known = min(known, step.pool_max)
        book.slots_known[key] = known
    return known


# ------------------------------------------------------------------------------------------------- the peers'


def hear(book: Book, event: PeerLoad) -> None:
    """A peer says how busy it is. A word that was overtaken by a newer one is dropped."""
    load = peer_pb2.Load.FromString(event.load)
    before = book.loads.peers.get(event.cluster)
    if (
        before is not None
        and before.log_id == event.log_id
        and load.number < before.load.number
        and book.now < before.heard + _REORDERED
    ):
        return
    book.loads.peers[event.cluster] = Told(
        heard=book.now,
        log_id=event.log_id,
        load=load,
        steps={step.definition: step for step in load.steps},
        sent={
            (live, step): count
            for live in book.lives.going.values()
            for (cluster, step), count in live.sent.items()
            if cluster == event.cluster
        },
        coming=load.link.waiting_bytes,
        coming_at=book.now,
    )


def coming(book: Book, cluster: str, link: Fit) -> float:
    """Bytes that are on their way to a cluster: what it said, and what we have sent since, less what may be there."""
    told = book.loads.peers.get(cluster)
    if told is None:
        return 0.0
    return max(0.0, told.coming - (book.now - told.coming_at) / max(link.per_byte, 1e-12))


def sends(book: Book, cluster: str, size: int) -> None:
    """A unit of that size goes to the cluster."""
    told = book.loads.peers.get(cluster)
    if told is not None:
        told.coming = coming(book, cluster, link_to(book, cluster)) + size
        told.coming_at = book.now
