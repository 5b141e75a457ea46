"""Which queued run tries when: in the order of submission, never two that overlap, and none for nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from control_plane.reservations.core import (
    Action,
    GiveUp,
    Name,
    NoOtherPlan,
    Queue,
    Roomier,
    RunGone,
    RunSeen,
    Tick,
    Try,
    WakeAt,
)
from control_plane.runs import core, messages
from tests.settings import examples

A, B = ("default", "a"), ("default", "b")


class Hub:
    """A queue, with the runs of its store beside it; every attempt of a run is on all of its clusters."""

    def __init__(self) -> None:
        self.queue = Queue(5.0)
        self.runs: dict[Name, m.Run] = {}
        self.now = 0.0
        self.epoch = 0
        self.tries: list[Try] = []
        self.gave_up: list[GiveUp] = []
        self.wake: float | None = None

    def submit(self, name: Name, *clusters: str) -> None:
        run = m.Run(namespace=name[0], name=name[1], submitted_at=float(len(self.runs)))
        self.happen(name, run, messages.Submitted(run))
        self.happen(name, self.runs[name], messages.Queued(1, b"p", "hold", clusters))
        self.say(RunSeen(self.runs[name]))

    def happen(self, name: Name, run: m.Run | None, event: messages.Event) -> None:
        for action in core.handle(None if isinstance(event, messages.Submitted) else run, event):
            if isinstance(action, messages.StoreRun):
                self.runs[name] = action.run

    def say(self, event: RunSeen | RunGone | Roomier | NoOtherPlan | Tick) -> list[Action]:
        actions = self.queue.handle(event, self.now)
        self.tries += [action for action in actions if isinstance(action, Try)]
        self.gave_up += [action for action in actions if isinstance(action, GiveUp)]
        due = [action.at for action in actions if isinstance(action, WakeAt)]
        self.wake = due[0] if due else None
        return actions

    def begin(self, order: Try, *clusters: str) -> None:
        """The driver stores the attempt."""
        self.tries.remove(order)
        run = self.runs[order.name]
        self.epoch += 1
        fragments = tuple(
            m.Fragment(namespace="default", run=run.name, cluster=name, epoch=self.epoch)
            for name in clusters or run.reservation.clusters
        )
        attempt = run.reservation.attempts + 1
        event = messages.Reserving(attempt, self.epoch, 1, b"p", fragments, dict(order.denied), 10.0)
        self.happen(order.name, run, event)
        self.say(RunSeen(self.runs[order.name]))

    def answer(self, name: Name, cluster: str, *, reserved: bool = True) -> None:
        run = self.runs[name]
        reason = "" if reserved else f"{cluster} is full"
        self.happen(name, run, messages.Answered(cluster, run.reservation.epoch, reserved, reason, self.now))
        self.say(RunSeen(self.runs[name]))

    def state(self, name: Name) -> m.RunState.ValueType:
        return self.runs[name].state

    def wait_in_vain(self, name: Name, cluster: str) -> None:
        """Begin, be denied, and find no other plan."""
        (order,) = [order for order in self.tries if order.name == name]
        self.begin(order)
        self.answer(name, cluster, reserved=False)
        (again,) = [order for order in self.tries if order.name == name]
        assert again.denied == {cluster: f"{cluster} is full"}
        self.tries.remove(again)
        self.say(NoOtherPlan(name))


def test_runs_that_share_a_cluster_try_one_after_the_other_and_others_meanwhile() -> None:
    hub = Hub()
    hub.submit(A, "x", "y")
    hub.submit(B, "y", "z")
    hub.submit(("default", "c"), "v")
    assert [order.name for order in hub.tries] == [A, ("default", "c")]
    hub.begin(hub.tries[0])
    hub.answer(A, "x")
    hub.answer(A, "y")
    assert hub.state(A) == m.RUN_STATE_RUNNING
    assert hub.tries[-1] == Try(B, {})


def test_who_was_denied_is_planned_without_that_cluster_and_else_waits_for_its_word() -> None:
    hub = Hub()
    hub.submit(A, "x", "y")
    hub.wait_in_vain(A, "y")
    assert "y is full" in hub.runs[A].message
    hub.say(Roomier("x"))
    assert not hub.tries, "x denied nothing"
    hub.say(Roomier("y"))
    assert hub.tries == [Try(A, {})]


def test_a_word_that_came_while_a_cluster_denied_is_not_missed() -> None:
    hub = Hub()
    hub.submit(A, "x")
    hub.begin(hub.tries[0])
    hub.say(Roomier("x"))
    hub.answer(A, "x", reserved=False)
    assert hub.tries == [Try(A, {})], "tried on all of its clusters again"


def test_an_attempt_of_which_only_the_end_was_seen_is_over() -> None:
    hub = Hub()
    hub.submit(A, "x")
    say, hub.say = hub.say, lambda _: []  # type: ignore[method-assign]
    hub.begin(hub.tries[0])
    hub.say = say  # type: ignore[method-assign]
    hub.answer(A, "x", reserved=False)
    assert hub.tries == [Try(A, {"x": "x is full"})]


def test_a_run_that_waits_for_slots_is_not_passed_by_later_ones_on_its_clusters() -> None:
    hub = Hub()
    hub.submit(A, "x", "y")
    hub.wait_in_vain(A, "y")
    hub.submit(B, "x")
    assert not hub.tries
    hub.submit(("default", "c"), "z")
    assert [order.name for order in hub.tries] == [("default", "c")]


def test_a_run_that_waits_for_a_silent_cluster_lets_others_pass_and_is_tried_again() -> None:
    hub = Hub()
    hub.submit(A, "x", "y")
    hub.begin(hub.tries[0])
    hub.answer(A, "x")
    assert hub.wake == 5.0
    hub.now = 5.0
    hub.say(Tick())
    (over,) = hub.gave_up
    assert over.silent == ("y",)
    hub.happen(A, hub.runs[A], messages.Unanswered(over.epoch, over.silent))
    hub.say(RunSeen(hub.runs[A]))
    assert hub.tries == [Try(A, {"y": "y has not answered whether it holds the run's slots"})]
    hub.tries.clear()
    hub.say(NoOtherPlan(A))
    hub.submit(B, "x")
    assert hub.tries == [Try(B, {})]
    hub.begin(hub.tries[0])
    hub.answer(B, "x")
    assert hub.wake is not None
    hub.now = hub.wake
    hub.say(Tick())
    assert hub.tries == [Try(A, {})]


def test_a_run_that_can_not_be_planned_is_tried_again_later() -> None:
    hub = Hub()
    hub.submit(A, "x")
    hub.tries.clear()
    hub.say(NoOtherPlan(A))
    assert not hub.tries
    assert hub.wake is not None
    hub.now = hub.wake
    hub.say(Tick())
    assert hub.tries == [Try(A, {})]


CLUSTERS = ("x", "y", "z")


@settings(max_examples=examples(60))
@given(st.data())
def test_every_run_gets_its_slots_whatever_others_want_and_however_answers_come(data: st.DataObject) -> None:
    hub = Hub()
    wanted = data.draw(st.lists(st.sets(st.sampled_from(CLUSTERS), min_size=1), min_size=1, max_size=5))
    holds: dict[str, Name | None] = dict.fromkeys(CLUSTERS)  # one run at a time fits on a cluster
    asked: set[str] = set()
    halves: dict[Name, set[str]] = {}
    orders: list[tuple[Name, int, str]] = []
    for number, clusters in enumerate(wanted):
        hub.submit(("default", f"r{number}"), *sorted(clusters))
    ended: set[Name] = set()

    def release(name: Name) -> None:
        freed = [cluster for cluster in CLUSTERS if holds[cluster] == name]
        for cluster in freed:
            holds[cluster] = None
            if cluster in asked:
                asked.remove(cluster)
                hub.say(Roomier(cluster))

    for _ in range(400):
        running = [name for name, run in hub.runs.items() if run.state == m.RUN_STATE_RUNNING and name not in ended]
        moves: list[tuple[str, object]] = [("try", order) for order in hub.tries]
        moves += [("answer", order) for order in orders] + [("end", name) for name in running]
        if not moves:
            break
        kind, what = data.draw(st.sampled_from(moves))
        if kind == "try":
            assert isinstance(what, Try)
            overlapping = [
                other
                for other, run in hub.runs.items()
                if run.reservation.epoch
                and set(run.reservation.clusters) & set(hub.runs[what.name].reservation.clusters)
            ]
            assert not overlapping, "one attempt at a time where clusters overlap"
            if what.denied:
                hub.tries.remove(what)
                hub.say(NoOtherPlan(what.name))
            else:
                hub.begin(what)
                run = hub.runs[what.name]
                orders += [(what.name, run.reservation.epoch, cluster) for cluster in run.reservation.clusters]
        elif kind == "answer":
            name, epoch, cluster = what  # type: ignore[misc]
            orders.remove(what)  # type: ignore[arg-type]
            run = hub.runs[name]
            if run.reservation.epoch != epoch:
                continue  # taken back before it was heard
            free = holds[cluster] in (None, name)
            if free:
                holds[cluster] = name
                halves.setdefault(name, set()).add(cluster)
            else:
                asked.add(cluster)
            hub.answer(name, cluster, reserved=free)
            if not free:
                release(name)
        else:
            assert isinstance(what, tuple)
            ended.add(what)  # type: ignore[arg-type]
            hub.say(RunGone(what))  # type: ignore[arg-type]
            release(what)  # type: ignore[arg-type]
    assert ended == set(hub.runs), "every run has got its slots and ended"
    assert not any(holds.values()), "no slot is left held"
