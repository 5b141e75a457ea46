"""What a run's life promises, whatever arrives twice, late or in another order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs import core, forms, messages

CLUSTERS = ("cloud", "edge1", "edge2")
EPOCH = 7


class Store:
    """The store's part in a test: holds what the actions say, as the driver would."""

    def __init__(self) -> None:
        self.run: m.Run | None = None
        self.desired: dict[str, int] = {}
        self.outputs: dict[tuple[str, int, int], tuple[m.RunOutput, ...]] = {}
        self.refused: list[str] = []

    def give(self, event: messages.Event) -> list[messages.Action]:
        actions = core.handle(self.run, event)
        for action in actions:
            match action:
                case messages.StoreRun(run):
                    self.run = run
                case messages.StoreFragments(fragments, desired):
                    self.desired |= {fragment.cluster: desired for fragment in fragments}
                case messages.SetDesired(clusters, desired):
                    self.desired |= dict.fromkeys(clusters, desired)
                case messages.StoreOutputs(cluster, epoch, number, outputs):
                    self.outputs[cluster, epoch, number] = outputs
                case messages.Refuse(message):
                    self.refused.append(message)
        return actions

    def all_outputs(self) -> tuple[m.RunOutput, ...]:
        return tuple(output for piece in self.outputs.values() for output in piece)


def status(cluster: str, state: m.FragmentState.ValueType, **more: object) -> m.FragmentStatus:
    return m.FragmentStatus(namespace="default", run="r", cluster=cluster, epoch=EPOCH, state=state, **more)  # type: ignore[arg-type]


def output(name: str, unit: int) -> m.RunOutput:
    return m.RunOutput(name=name, file=f"{unit}.csv", unit=m.Unit(id=bytes([unit] * 16)), cluster="cloud")


def running(clusters: Sequence[str] = CLUSTERS) -> Store:
    store = Store()
    store.give(messages.Submitted(m.Run(namespace="default", name="r", workflow="w", submitted_at=1.0)))
    fragments = tuple(m.Fragment(namespace="default", run="r", cluster=name, epoch=EPOCH) for name in clusters)
    store.give(messages.Planned(revision=1, plan=b"p", fragments=fragments, at=2.0))
    return store


def ended(store: Store, cluster: str, state: m.FragmentState.ValueType, **more: object) -> list[messages.Action]:
    return store.give(messages.FragmentEnded(status(cluster, state, **more), 99, 9.0, store.all_outputs()))


def state_of(store: Store) -> m.RunState.ValueType:
    assert store.run is not None
    return store.run.state


def test_a_run_succeeds_once_all_fragments_have_and_publishes_their_outputs() -> None:
    store = running()
    store.give(messages.OutputMade(status("cloud", m.FRAGMENT_STATE_RUNNING, outputs=[output("report", 1)]), 3))
    for cluster in CLUSTERS[:-1]:
        ended(store, cluster, m.FRAGMENT_STATE_SUCCEEDED)
        assert state_of(store) == m.RUN_STATE_RUNNING
        assert store.run is not None and not store.run.outputs
    ended(store, CLUSTERS[-1], m.FRAGMENT_STATE_SUCCEEDED, outputs=[output("rows", 2), output("report", 1)])
    assert state_of(store) == m.RUN_STATE_SUCCEEDED
    assert store.run is not None
    assert [(made.name, made.unit.id[0]) for made in store.run.outputs] == [("report", 1), ("rows", 2)]
    assert store.run.ended_at == 9.0
    assert set(store.desired.values()) == {m.DESIRED_STATE_FINISHED}


def test_many_outputs_are_counted_and_only_some_stand_in_the_run() -> None:
    store = running(["cloud"])
    ended(store, "cloud", m.FRAGMENT_STATE_SUCCEEDED, outputs=[output("rows", unit) for unit in range(250)])
    assert store.run is not None
    assert (len(store.run.outputs), store.run.outputs_left_out) == (100, 150)


def test_an_output_that_was_lost_or_lies_elsewhere_is_shown_as_that_also_when_the_run_is_over() -> None:
    store = running(["cloud"])
    ended(store, "cloud", m.FRAGMENT_STATE_SUCCEEDED, outputs=[output("rows", 1), output("rows", 2), output("sum", 3)])
    lost, moved, unknown = output("rows", 2), output("sum", 3), output("other", 4)
    lost.lost, moved.node = "its disk", "n2"
    store.give(messages.OutputMade(status("cloud", m.FRAGMENT_STATE_RUNNING, outputs=[lost, moved, unknown]), 100))
    assert store.run is not None
    assert list(store.run.outputs) == [output("rows", 1), lost, moved]
    assert store.run.state == m.RUN_STATE_SUCCEEDED
    assert lost in forms.published(store.all_outputs())


def test_an_output_that_is_lost_before_the_run_is_over_is_lost_afterwards() -> None:
    store = running()
    ended(store, "cloud", m.FRAGMENT_STATE_SUCCEEDED, outputs=[output("rows", 1)])
    lost = output("rows", 1)
    lost.lost = "its disk"
    store.give(messages.OutputMade(status("cloud", m.FRAGMENT_STATE_RUNNING, outputs=[lost]), 100))
    for cluster in CLUSTERS:
        if cluster != "cloud":
            ended(store, cluster, m.FRAGMENT_STATE_SUCCEEDED)
    assert store.run is not None
    assert list(store.run.outputs) == [lost]


def test_one_failed_fragment_cancels_the_others_and_fails_the_run_when_all_have_ended() -> None:
    store = running()
    failure = m.Failure(step="join", cluster="edge1", node="n1", attempt=3, kind="exit", message="code 2")
    ended(store, "edge1", m.FRAGMENT_STATE_FAILED, failures=[failure])
    assert state_of(store) == m.RUN_STATE_STOPPING
    assert store.desired["cloud"] == store.desired["edge2"] == m.DESIRED_STATE_CANCELLED
    ended(store, "edge2", m.FRAGMENT_STATE_SUCCEEDED)
    assert state_of(store) == m.RUN_STATE_STOPPING
    ended(store, "cloud", m.FRAGMENT_STATE_CANCELLED)
    assert state_of(store) == m.RUN_STATE_FAILED
    assert store.run is not None
    assert store.run.message == "step join failed on edge1/n1, attempt 3 (exit): code 2"
    assert not store.run.outputs
    assert set(store.desired.values()) == {m.DESIRED_STATE_FINISHED}


def test_a_run_that_went_on_without_tasks_has_failed_in_the_end_and_keeps_its_outputs() -> None:
    store = running(["edge1", "cloud"])
    ended(store, "edge1", m.FRAGMENT_STATE_SUCCEEDED, given_up=2, skipped=1)
    assert state_of(store) == m.RUN_STATE_RUNNING, "the others are not stopped for it"
    ended(store, "cloud", m.FRAGMENT_STATE_SUCCEEDED, outputs=[output("report", 1)], given_up=1)
    assert state_of(store) == m.RUN_STATE_FAILED
    assert store.run is not None
    assert store.run.message == "3 tasks failed, and the run went on without them (on_failure: continue)"
    assert len(store.run.outputs) == 1


def test_a_run_that_skipped_tasks_succeeds_and_says_so() -> None:
    store = running(["edge1", "cloud"])
    ended(store, "edge1", m.FRAGMENT_STATE_SUCCEEDED, skipped=1)
    ended(store, "cloud", m.FRAGMENT_STATE_SUCCEEDED)
    assert state_of(store) == m.RUN_STATE_SUCCEEDED
    assert store.run is not None
    assert store.run.message == "1 task failed, and the run went on without (on_failure: skip)"


def test_a_cancelled_run_ends_cancelled_also_when_a_fragment_fails_meanwhile() -> None:
    store = running()
    store.give(messages.CancelRequested("enough", at=5.0))
    assert set(store.desired.values()) == {m.DESIRED_STATE_CANCELLED}
    ended(store, "edge1", m.FRAGMENT_STATE_FAILED)
    ended(store, "edge2", m.FRAGMENT_STATE_SUCCEEDED)
    ended(store, "cloud", m.FRAGMENT_STATE_CANCELLED)
    assert state_of(store) == m.RUN_STATE_CANCELLED
    assert store.run is not None and store.run.message == "enough"


def test_a_run_without_fragments_is_cancelled_at_once() -> None:
    store = Store()
    store.give(messages.Submitted(m.Run(name="r")))
    store.give(messages.CancelRequested("", at=5.0))
    assert state_of(store) == m.RUN_STATE_CANCELLED


def test_suspend_and_resume_go_to_the_live_fragments_only() -> None:
    store = running()
    ended(store, "edge1", m.FRAGMENT_STATE_SUCCEEDED)
    store.give(messages.SuspendRequested())
    assert state_of(store) == m.RUN_STATE_SUSPENDED
    assert store.desired["edge2"] == m.DESIRED_STATE_SUSPENDED
    assert store.desired["edge1"] == m.DESIRED_STATE_RUNNING
    assert store.give(messages.SuspendRequested()) == []
    store.give(messages.ResumeRequested())
    assert state_of(store) == m.RUN_STATE_RUNNING
    assert store.desired["edge2"] == m.DESIRED_STATE_RUNNING


def test_what_cannot_be_done_is_refused_with_the_state_that_forbids_it() -> None:
    store = running(["cloud"])
    store.give(messages.Submitted(m.Run(name="r")))
    ended(store, "cloud", m.FRAGMENT_STATE_SUCCEEDED)
    store.give(messages.SuspendRequested())
    store.give(messages.CancelRequested("", at=1.0))
    assert store.refused == [
        "there is a run r already",
        "the run r is succeeded: it can't be suspended",
        "the run r has ended (succeeded): there is nothing to cancel",
    ]


def test_progress_is_laid_over_and_bounded() -> None:
    store = running()
    assert store.run is not None
    failures = [m.Failure(message=str(number), detail="x" * 5000) for number in range(20)]
    step = m.StepProgress(step="clean", done=4)
    told = status("edge1", m.FRAGMENT_STATE_RUNNING, steps=[step], failures=failures, outputs=[output("a", 1)])
    shown = forms.overlaid(store.run, [told])
    assert shown.fragments["edge1"].steps[0].done == 4
    assert not store.run.fragments["edge1"].steps
    assert len(shown.fragments["edge1"].failures) == 3
    assert shown.fragments["edge1"].failures_left_out == 17
    assert not shown.fragments["edge1"].outputs
    assert shown.ByteSize() < 6000


@pytest.mark.parametrize("event", ["accepted", "progress", "output", "ended"])
def test_a_word_under_another_epoch_changes_nothing(event: str) -> None:
    store = running()
    late = status("edge1", m.FRAGMENT_STATE_FAILED, outputs=[output("a", 1)])
    late.epoch = EPOCH - 1
    events: dict[str, messages.Event] = {
        "accepted": messages.FragmentAccepted("edge1", EPOCH - 1, 3.0),
        "progress": messages.Progress((late,)),
        "output": messages.OutputMade(late, 1),
        "ended": messages.FragmentEnded(late, 1, 3.0, ()),
    }
    assert store.give(events[event]) == []


FRAGMENT_STATES = st.sampled_from(
    [m.FRAGMENT_STATE_RUNNING, m.FRAGMENT_STATE_SUCCEEDED, m.FRAGMENT_STATE_FAILED, m.FRAGMENT_STATE_CANCELLED]
)


@st.composite
def happenings(draw: st.DrawFn) -> tuple[str, str, m.FragmentState.ValueType, int]:
    kind = draw(st.sampled_from(["accepted", "progress", "output", "ended", "cancel", "suspend", "resume", "planned"]))
    cluster = draw(st.sampled_from([*CLUSTERS, "stranger"]))
    return kind, cluster, draw(FRAGMENT_STATES), draw(st.sampled_from([EPOCH, EPOCH, EPOCH, EPOCH - 1]))


def event_of(store: Store, happening: tuple[str, str, m.FragmentState.ValueType, int], number: int) -> messages.Event:
    kind, cluster, state, epoch = happening
    told = status(cluster, state, outputs=[output("o", number % 250)])
    told.epoch = epoch
    match kind:
        case "accepted":
            return messages.FragmentAccepted(cluster, epoch, 3.0)
        case "progress":
            return messages.Progress((told,))
        case "output":
            return messages.OutputMade(told, number)
        case "ended":
            return messages.FragmentEnded(told, number, 4.0, store.all_outputs())
        case "cancel":
            return messages.CancelRequested("why", 4.0)
        case "suspend":
            return messages.SuspendRequested()
        case "resume":
            return messages.ResumeRequested()
        case _:
            return messages.Planned(1, b"other", (), 3.0)


@given(st.lists(happenings(), max_size=40))
def test_an_ended_run_never_changes_and_an_ended_fragment_neither(
    history: list[tuple[str, str, m.FragmentState.ValueType, int]],
) -> None:
    store = running()
    for number, happening in enumerate(history):
        assert store.run is not None
        before = m.Run.FromString(store.run.SerializeToString())
        outputs = dict(store.outputs)
        actions = store.give(event_of(store, happening, number))
        assert before.SerializeToString(deterministic=True) is not None
        if before.state in forms.ENDED:
            assert store.run == before
            assert store.outputs == outputs
            assert all(isinstance(action, messages.Refuse) for action in actions)
        for cluster, fragment in before.fragments.items():
            if fragment.state in forms.FRAGMENT_ENDED:
                assert store.run.fragments[cluster] == fragment
        all_ended = all(part.state in forms.FRAGMENT_ENDED for part in store.run.fragments.values())
        assert all_ended == (store.run.state in forms.ENDED)
        assert "stranger" not in store.run.fragments
        if store.run.state in forms.ENDED:
            assert set(store.desired.values()) == {m.DESIRED_STATE_FINISHED}


@given(st.permutations([(cluster, turn) for cluster in CLUSTERS for turn in range(2)]))
def test_the_order_and_repetition_of_last_words_do_not_matter(order: list[tuple[str, int]]) -> None:
    store = running()
    for number, (cluster, _) in enumerate(order):
        said = output("report", CLUSTERS.index(cluster))
        store.give(
            messages.FragmentEnded(
                status(cluster, m.FRAGMENT_STATE_SUCCEEDED, outputs=[said]), number, 9.0, store.all_outputs()
            )
        )
    assert state_of(store) == m.RUN_STATE_SUCCEEDED
    assert store.run is not None
    assert [made.unit.id[0] for made in store.run.outputs] == [0, 1, 2]
