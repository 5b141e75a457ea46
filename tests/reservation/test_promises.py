"""What reserving promises, whoever dies and whatever is cut off at whatever moment: on virtual time, with real cores.

Every state that a coordinator gets into is looked at: nothing is promised twice, no half is older than its time to
live, nothing of a half runs. At the end every run has ended and nothing is held.
"""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator import records
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.state import HELD
from control_plane.runs import forms
from simulator.cluster import Cluster
from simulator.federation import Federation
from simulator.hub import TIME_TO_LIVE
from tests.reservation.jobs import chain
from tests.settings import examples
from topology.packing import Room

CLUSTERS = {"x": {"n1": 2.0, "n2": 2.0}, "y": {"n1": 2.0}, "z": {"n1": 4.0}}
LONG = 600.0  # virtual seconds in which everything must have ended


def book_of(cluster: Cluster) -> Book:
    return cluster.core._book


class Watched(Federation):
    """A federation whose coordinators are looked at after each batch."""

    def __init__(self) -> None:
        self.halves: dict[tuple[str, str, int], float] = {}
        self.looked = 0
        super().__init__(CLUSTERS, self.look)
        self.clock.run(1.0)

    def look(self, cluster: Cluster) -> None:
        self.looked += 1
        book = book_of(cluster)
        for node in book.nodes.values():
            held = Room()
            for hold in node.holds.values():
                held.add(hold.held.cpus, hold.held.memory)
                assert hold.used.cpus >= -1e-9
            assert Room(node.cpus, node.memory).fits(held.cpus, held.memory) or not node.connected, "promised twice"
        assert {key for node in book.nodes.values() for key in node.holds} <= set(book.claims), "leaked"
        for key, claim in book.claims.items():
            live = book.lives.get(key)
            assert claim.half == (live is None), "a half has no tasks, a committed claim has its fragment"
            assert live is None or live.going, "what has ended holds nothing"
        for half in book.state.halves.values():
            if half.state == HELD:
                since = self.halves.setdefault((cluster.name, half.run.run, half.epoch), self.clock.now)
                assert self.clock.now - since <= TIME_TO_LIVE + 1e-6, "a half outlives its time"
                assert half.run in book.claims

    def finish(self) -> None:
        self.clock.run(LONG, lambda: self.hub.ended)
        states = {name[1]: (m.RunState.Name(run.state), run.message) for name, run in self.hub.runs.items()}
        assert self.hub.ended, f"these runs hang: {states}"
        self.clock.run(self.clock.now + 2 * TIME_TO_LIVE)
        for cluster in self.clusters.values():
            book = book_of(cluster)
            assert not book.claims, f"{cluster.name} still holds slots"
            assert not book.state.halves
            assert not any(node.holds for node in book.nodes.values())
            replayed = Coordinator(cluster.name)
            for record in cluster.log:
                replayed.apply(records.decode(record))
            assert replayed.snapshot() == cluster.core.snapshot(), "the log says what there is"


class Faulty(Watched):
    """The cluster whose event is the one of that number suffers something."""

    def __init__(self, kind: str, fault_at: int) -> None:
        self.kind = kind
        self.left = fault_at
        self.struck = False
        super().__init__()

    def look(self, cluster: Cluster) -> None:
        super().look(cluster)
        reserving = any(run.state == m.RUN_STATE_QUEUED for run in self.hub.runs.values())
        if self.struck or not reserving:
            return
        self.left -= 1
        if self.left < 0:
            self.struck = True
            cut = partial(self.cut, cluster.name, 2 * TIME_TO_LIVE)
            self.clock.after(0.0, {"agent": cluster.crash, "hub": self.crash_hub, "cut": cut}[self.kind])


modes = st.sampled_from(["none", "hold", "lend"])
stages = st.lists(st.sampled_from(["x", "y", "z", ""]), min_size=1, max_size=3)
submissions = st.lists(
    st.tuples(st.floats(0.0, 3.0), modes, stages, st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.0]), st.booleans()),
    min_size=1,
    max_size=4,
)
faults = st.lists(
    st.tuples(
        st.floats(0.0, 12.0),
        st.sampled_from(["agent", "hub", "cut", "long cut"]),
        st.sampled_from(sorted(CLUSTERS)),
    ),
    max_size=5,
)


@settings(max_examples=examples(40))
@given(submissions, faults)
def test_every_run_ends_and_nothing_is_promised_twice_or_left(
    runs: list[tuple[float, str, list[str], int, float, bool]], broken: list[tuple[float, str, str]]
) -> None:
    federation = Watched()
    for number, (when, mode, where, units, cpus, preemptible) in enumerate(runs):
        job = chain(
            where if any(where) else ["x", *where],
            reserve=mode,
            units=units,
            cpus=cpus,
            seconds=1.3,
            clusters=CLUSTERS,
            preemptible=preemptible,
        )
        federation.clock.at(1.0 + when, lambda name=f"r{number}", job=job: federation.hub.submit(name, job))  # type: ignore[misc]
    for when, kind, cluster in broken:
        what = {
            "agent": federation.clusters[cluster].crash,
            "hub": federation.crash_hub,
            "cut": lambda cluster=cluster: federation.cut(cluster, 0.5),
            "long cut": lambda cluster=cluster: federation.cut(cluster, 25.0),
        }[kind]
        federation.clock.at(1.0 + when, what)
    federation.clock.run(5.0)
    federation.finish()
    assert all(run.state == m.RUN_STATE_SUCCEEDED for run in federation.hub.runs.values())


@pytest.mark.parametrize("kind", ["agent", "hub", "cut"])
def test_a_crash_at_each_event_of_a_reservation_loses_no_slot(kind: str) -> None:
    """Two runs that want each other's clusters; the fault comes at one event later each time."""
    for fault_at in itertools.count():
        federation = Faulty(kind, fault_at)
        federation.hub.submit("a", chain(["x", "y"], clusters=CLUSTERS, cpus=2, units=1))
        federation.hub.submit("b", chain(["y", "x"], clusters=CLUSTERS, cpus=2, units=1))
        federation.finish()
        assert all(run.state == m.RUN_STATE_SUCCEEDED for run in federation.hub.runs.values()), f"fault at {fault_at}"
        if not federation.struck:
            assert fault_at > 20
            return


def test_two_runs_that_would_deadlock_under_naive_holding_both_end() -> None:
    federation = Watched()
    federation.hub.submit("a", chain(["x", "y"], clusters=CLUSTERS, cpus=2))
    federation.hub.submit("b", chain(["y", "x"], clusters=CLUSTERS, cpus=2))
    federation.clock.run(2.0)
    one, other = federation.hub.runs["default", "a"], federation.hub.runs["default", "b"]
    assert (one.state, other.state) == (m.RUN_STATE_RUNNING, m.RUN_STATE_QUEUED)
    assert "run a holds" in other.message
    federation.finish()
    assert all(run.state == m.RUN_STATE_SUCCEEDED for run in federation.hub.runs.values())


def test_a_run_goes_elsewhere_where_its_plan_allows_that() -> None:
    federation = Watched()
    federation.hub.submit("a", chain(["x", "z"], clusters=CLUSTERS, cpus=2, units=4))
    federation.clock.run(2.0)
    federation.hub.submit("b", chain(["", "y"], clusters=CLUSTERS, cpus=2, units=1))
    federation.clock.run(3.0)
    run = federation.hub.runs["default", "b"]
    assert run.state == m.RUN_STATE_RUNNING, run.message
    assert sorted(run.fragments) != ["x", "y"], "x is held by a"


def test_a_half_is_over_after_its_time_to_live_if_the_hub_is_gone() -> None:
    federation = Watched()
    federation.cut("y", 3 * TIME_TO_LIVE)
    federation.hub.submit("a", chain(["x", "y"], clusters=CLUSTERS, cpus=2))
    federation.clock.run(2.0)
    book = book_of(federation.clusters["x"])
    assert [claim.half for claim in book.claims.values()] == [True]
    federation.cut("x", 3 * TIME_TO_LIVE)
    federation.clock.run(1.0 + TIME_TO_LIVE + 0.5)
    assert not book.claims, "nobody told it; its time was over"
    federation.finish()


def test_cancelling_a_queued_run_takes_back_what_it_holds() -> None:
    federation = Watched()
    federation.cut("y", 3 * TIME_TO_LIVE)
    federation.hub.submit("a", chain(["x", "y"], clusters=CLUSTERS, cpus=2))
    federation.clock.run(2.0)
    federation.hub.cancel("a")
    assert federation.hub.runs["default", "a"].state in forms.ENDED
    federation.clock.run(2.1)
    assert not book_of(federation.clusters["x"]).claims
    federation.finish()


def test_others_do_not_use_what_is_held_and_do_use_what_is_lent() -> None:
    for mode, done in (("hold", 0), ("lend", 2)):
        federation = Watched()
        federation.hub.submit("owner", chain(["x", "y"], reserve=mode, clusters=CLUSTERS, cpus=2, units=1, seconds=5.0))
        federation.clock.run(2.0)
        federation.hub.submit("other", chain(["y"], reserve="none", clusters=CLUSTERS, cpus=2, units=4, seconds=1.0))
        federation.clock.run(5.5)
        status = federation.clusters["y"].core.status(RunKey("default", "other"))
        assert status.steps[2].done >= done
        assert bool(status.steps[2].done) == bool(done), mode
        if mode == "lend":
            (held,) = [each for each in federation.clusters["y"].core.reserved() if each.step == "s1"]
            assert (held.held, held.used, held.lent) == (1, 0, 1)
        federation.finish()


@pytest.mark.parametrize(("preemptible", "waits"), [(False, 20.0), (True, 0.2)])
def test_an_owner_gets_its_slot_back_at_the_next_tasks_end_or_at_once(preemptible: bool, waits: float) -> None:
    federation = Watched()
    federation.hub.submit("owner", chain(["x", "y"], reserve="lend", clusters=CLUSTERS, cpus=2, units=1, seconds=3.0))
    federation.clock.run(2.0)
    borrower = chain(["y"], reserve="none", clusters=CLUSTERS, cpus=2, units=2, seconds=20.0, preemptible=preemptible)
    federation.hub.submit("borrower", borrower)
    federation.clock.run(60.0, lambda: federation.hub.runs["default", "owner"].state in forms.ENDED)
    wanted_at = 1.0 + 3.0
    assert federation.clock.now - wanted_at - 3.0 <= waits, "it waited for one task at most"
    federation.finish()
    assert federation.hub.runs["default", "borrower"].state == m.RUN_STATE_SUCCEEDED
    (status,) = federation.hub.runs["default", "borrower"].fragments.values()
    assert sum(step.failed for step in status.steps) == 0, "being preempted is no failure"
