"""Of two lines of a run exactly one counts, by one write, and nothing of the other is ever seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.kinds import Kinds
from control_plane.runs import core, lines, messages
from control_plane.runs.driver import Runs
from control_plane.runs.errors import Refused
from control_plane.runs.replacing import line_of_next
from tests.runs.test_replacing import ended

RUNNING, FORGOTTEN = m.DESIRED_STATE_RUNNING, m.DESIRED_STATE_FORGOTTEN
SUCCEEDED = m.FRAGMENT_STATE_SUCCEEDED
SECOND = "r.-2"


def fragments(namespace: str, line: str, epoch: int, clusters: str, keep: str = "original") -> tuple[m.Fragment, ...]:
    policy = m.Policy(replace=True, lost_after=30, keep=keep)
    revision = 1 if line == "r" else 2
    return tuple(
        m.Fragment(namespace=namespace, run=line, cluster=each, epoch=epoch, revision=revision, policy=policy)
        for each in clusters
    )


def without_a(namespace: str) -> messages.Replaced:
    return messages.Replaced(("a",), 2, b"q", fragments(namespace, SECOND, 7, "bcd"), 9.0)


async def two_lines(runs: Runs, namespace: str) -> m.Run:
    run = m.Run(namespace=namespace, name="r", workflow="w", idempotency_key="k", submitted_at=1.0)
    await runs.submit(run, messages.Planned(1, b"p", fragments(namespace, "r", 1, "abc"), 2.0))
    return await runs.happened(namespace, "r", without_a(namespace))


async def wanted(kinds: Kinds, namespace: str, line: str) -> dict[str, m.DesiredState.ValueType]:
    found = {}
    for cluster in "abcd":
        stored = await kinds.fragments.get(kinds.fragments.key(cluster, namespace, line))
        if stored is not None:
            found[cluster] = stored.value.desired
    return found


async def test_the_original_goes_on_beside_the_replacement(kinds: Kinds, runs: Runs, namespace: str) -> None:
    run = await two_lines(runs, namespace)
    assert (run.line, set(run.fragments), set(run.original.fragments)) == (SECOND, set("bcd"), set("abc"))
    assert run.message.endswith("; what was there goes on beside it (keep: original)")
    assert await wanted(kinds, namespace, "r") == dict.fromkeys("abc", RUNNING)
    assert await wanted(kinds, namespace, SECOND) == dict.fromkeys("bcd", RUNNING)
    await runs.happened(namespace, "r", messages.SuspendRequested())
    for line, clusters in (("r", "abc"), (SECOND, "bcd")):
        assert await wanted(kinds, namespace, line) == dict.fromkeys(clusters, m.DESIRED_STATE_SUSPENDED)


@pytest.mark.parametrize("original", [True, False])
async def test_one_write_says_which_line_counts(kinds: Kinds, runs: Runs, namespace: str, original: bool) -> None:
    await two_lines(runs, namespace)
    run = await runs.happened(namespace, "r", messages.Kept(2, original))
    assert not run.HasField("original")
    kept, other = (("r", "abc"), (SECOND, "bcd")) if original else ((SECOND, "bcd"), ("r", "abc"))
    assert (lines.name_of(run), set(run.fragments), list(run.replaced)) == (*_set(kept), [] if original else ["a"])
    assert await wanted(kinds, namespace, kept[0]) == dict.fromkeys(kept[1], RUNNING)
    assert await wanted(kinds, namespace, other[0]) == dict.fromkeys(other[1], FORGOTTEN)
    again = await runs.happened(namespace, "r", messages.Kept(2, not original))
    assert again == run, "it was decided twice"


def _set(line: tuple[str, str]) -> tuple[str, set[str]]:
    return line[0], set(line[1])


async def test_a_hub_that_decides_on_an_older_plan_decides_nothing(runs: Runs, namespace: str) -> None:
    await two_lines(runs, namespace)
    later = messages.Replaced(("b",), 3, b"q", fragments(namespace, SECOND, 9, "cd"), 9.0)
    run = await runs.happened(namespace, "r", later)
    assert (set(run.fragments), set(run.original.fragments)) == (set("cd"), set("abc")), (
        "only the replacement is replaced"
    )
    with pytest.raises(Refused, match="has come further"):
        await runs.happened(namespace, "r", messages.Kept(2, True))


async def outputs_of_both(runs: Runs, namespace: str) -> None:
    """Each line has made an output, and lacks one fragment of its end; the original's on a, the other's on d."""
    await two_lines(runs, namespace)
    for cluster, epoch, unit in (("b", 1, 1), ("b", 7, 2), ("c", 1, 3), ("c", 7, 4)):
        await runs.happened(namespace, "r", ended(namespace, cluster, epoch, unit))


async def end_with_what_is_stored(runs: Runs, namespace: str, cluster: str, epoch: int, *units: int) -> m.Run:
    """The last word of a line, as the hub takes it."""

    async def event(run: m.Run) -> messages.Event:
        line = run.original if run.HasField("original") and epoch == 1 else run
        said = ended(namespace, cluster, epoch, *units)
        return messages.FragmentEnded(said.status, said.number, said.at, tuple(await runs.outputs(run, line)))

    outcome = await runs.happen(namespace, "r", event)
    assert outcome.run is not None
    return outcome.run


@pytest.mark.parametrize(
    ("cluster", "epoch", "seen", "clusters"), [("a", 1, [1, 3, 5], "abc"), ("d", 7, [2, 4, 5], "bcd")]
)
async def test_the_line_that_ends_first_is_the_result_and_outputs_of_the_other_are_never_seen(
    kinds: Kinds, runs: Runs, namespace: str, cluster: str, epoch: int, seen: Sequence[int], clusters: str
) -> None:
    await outputs_of_both(runs, namespace)
    run = await end_with_what_is_stored(runs, namespace, cluster, epoch, 5)
    assert run.state == m.RUN_STATE_SUCCEEDED
    assert [made.unit.id[0] for made in run.outputs] == seen
    assert [made.unit.id[0] for made in await runs.outputs(run)] == seen
    other = {"a": ("d", 7), "d": ("a", 1)}[cluster]
    assert await runs.happened(namespace, "r", ended(namespace, *other, 9)) == run, "an ended run has changed"
    kept, gone = ("r", SECOND) if cluster == "a" else (SECOND, "r")
    assert await wanted(kinds, namespace, kept) == dict.fromkeys(clusters, m.DESIRED_STATE_FINISHED)
    assert set((await wanted(kinds, namespace, gone)).values()) == {FORGOTTEN}
    await runs.delete(namespace, "r")
    assert {*(await wanted(kinds, namespace, kept)).values()} == {FORGOTTEN}


async def test_an_output_of_the_original_that_was_lost_beside_a_replacement_is_lost_in_the_end(
    runs: Runs, namespace: str
) -> None:
    await outputs_of_both(runs, namespace)
    lost = m.FragmentStatus(namespace=namespace, run="r", cluster="b", epoch=1, state=SUCCEEDED)
    (output,) = ended(namespace, "b", 1, 1).status.outputs
    output.lost = "its disk"
    lost.outputs.append(output)
    await runs.happened(namespace, "r", messages.OutputMade(lost, 100))
    run = await end_with_what_is_stored(runs, namespace, "a", 1, 5)
    assert [made.lost for made in run.outputs] == ["its disk", "", ""]


async def test_of_two_lines_that_end_in_one_moment_one_is_the_result(runs: Runs, namespace: str) -> None:
    await outputs_of_both(runs, namespace)
    first, second = await asyncio.gather(
        end_with_what_is_stored(runs, namespace, "a", 1, 5), end_with_what_is_stored(runs, namespace, "d", 7, 6)
    )
    assert first == second
    assert [made.unit.id[0] for made in first.outputs] in ([1, 3, 5], [2, 4, 6])


async def test_what_a_hub_left_halfway_is_made_good_for_both_lines(kinds: Kinds, runs: Runs, namespace: str) -> None:
    """A crash came between the write of the run and those of its fragments."""
    run = await two_lines(runs, namespace)
    key = kinds.runs.key(namespace, "r")
    stored = await kinds.runs.get(key)
    assert stored is not None
    [chosen] = [each.run for each in core.handle(run, messages.Kept(2, True)) if isinstance(each, messages.StoreRun)]
    await kinds.commit([kinds.runs.updating(key, chosen, stored.revision)])
    await runs.mend()
    assert await wanted(kinds, namespace, "r") == dict.fromkeys("abc", RUNNING)
    assert await wanted(kinds, namespace, SECOND) == dict.fromkeys("bcd", FORGOTTEN)


# ------------------------------------------------------------------------------------------------- pure


def two() -> m.Run:
    run = m.Run(namespace="n", name="r", state=m.RUN_STATE_RUNNING, plan_revision=1, desired=RUNNING)
    for cluster in "abc":
        run.fragments[cluster].CopyFrom(m.FragmentStatus(cluster=cluster, epoch=1, state=m.FRAGMENT_STATE_RUNNING))
        run.replace_after[cluster] = 30
        run.keep[cluster] = "furthest"
    return stored(core.handle(run, without_a("n")))


def stored(actions: Sequence[messages.Action]) -> m.Run:
    [found] = [each.run for each in actions if isinstance(each, messages.StoreRun)]
    return found


def bad(cluster: str, epoch: int, state: m.FragmentState.ValueType, kind: str) -> messages.FragmentEnded:
    status = m.FragmentStatus(cluster=cluster, epoch=epoch, state=state)
    status.failures.add(cluster=cluster, kind=kind, message="no more")
    return messages.FragmentEnded(status, 1, 3.0, ())


def forgets(actions: Sequence[messages.Action], line: str, clusters: str) -> bool:
    return messages.SetDesired(tuple(clusters), FORGOTTEN, line) in actions


@pytest.mark.parametrize("kind", ["failed", "stopped"])
def test_an_original_that_can_not_end_well_is_given_up_and_the_run_goes_on(kind: str) -> None:
    actions = core.handle(two(), bad("b", 1, m.FRAGMENT_STATE_FAILED, kind))
    run = stored(actions)
    assert (run.state, run.HasField("original")) == (m.RUN_STATE_RUNNING, False)
    assert forgets(actions, "r", "abc")
    lost = core.handle(two(), messages.LogLost("a", 1, 3.0))
    assert forgets(lost, "r", "abc")
    assert not stored(lost).HasField("original")


def test_a_failure_of_the_replacement_is_one_of_the_run() -> None:
    actions = core.handle(two(), bad("d", 7, m.FRAGMENT_STATE_FAILED, "failed"))
    run = stored(actions)
    assert (run.state, run.ending, run.HasField("original")) == (m.RUN_STATE_STOPPING, m.RUN_STATE_FAILED, False)
    assert forgets(actions, "r", "abc")


def test_who_cancels_the_run_anywhere_cancels_both_lines() -> None:
    asked = core.handle(two(), messages.CancelRequested("enough", 9.0))
    assert forgets(asked, "r", "abc")
    assert messages.SetDesired(tuple("bcd"), m.DESIRED_STATE_CANCELLED) in asked
    at_a_cluster = core.handle(two(), bad("b", 1, m.FRAGMENT_STATE_CANCELLED, "cancelled"))
    run = stored(at_a_cluster)
    assert (run.state, run.ending, run.line) == (m.RUN_STATE_STOPPING, m.RUN_STATE_CANCELLED, "")
    assert forgets(at_a_cluster, SECOND, "bcd")
    assert messages.SetDesired(tuple("ac"), m.DESIRED_STATE_CANCELLED, "r") in at_a_cluster


@pytest.mark.parametrize(("done", "original"), [((5, 4), True), ((5, 5), True), ((5, 6), False)])
def test_by_furthest_the_line_counts_that_has_done_more_tasks(done: tuple[int, int], original: bool) -> None:
    run = two()
    statuses = [
        m.FragmentStatus(cluster="b", epoch=epoch, state=m.FRAGMENT_STATE_RUNNING, steps=[m.StepProgress(done=count)])
        for epoch, count in zip((1, 7), done, strict=True)
    ]
    shown = stored(core.handle(run, messages.Progress(tuple(statuses))))
    assert lines.back(shown) == messages.Kept(2, original)
    shown.original.keep = "original"
    assert lines.back(shown) == messages.Kept(2, True)


def test_the_original_waits_for_who_has_ended_there_as_long_as_somebody_lacks_its_last_words() -> None:
    run = stored(core.handle(two(), ended("n", "a", 1, unheard="b")))
    assert lines.waits_for(run) == ("a", "b", "c")
    assert lines.waits_for(stored(core.handle(run, messages.FragmentHeard("a", 1)))) == ("b", "c")


def test_a_line_is_put_beside_another_only_where_clusters_may_come_back_to_it() -> None:
    run = two()
    assert line_of_next(run, ("b",), ()) == SECOND, "there is an original already"
    run = stored(core.handle(run, messages.Kept(2, True)))
    assert line_of_next(run, ("b",), ()) == "r.-3", "a name of a line that is gone"
    assert line_of_next(run, ("b",), ("b",)) == "r", "it is drained"
    assert line_of_next(run, (), ()) == "r"
    stopped = stored(core.handle(run, bad("b", 1, m.FRAGMENT_STATE_FAILED, "stopped")))
    assert line_of_next(stopped, ("c",), ()) == "r", "one has stopped, and can't come back"
    run.keep.clear()
    assert line_of_next(run, ("b",), ()) == "r"


def test_a_line_a_part_of_which_has_stopped_meanwhile_is_kept_beside_no_replacement() -> None:
    """It could not come to its end any more: it is planned again, in the place of what there is."""
    run = stored(core.handle(two(), messages.Kept(2, True)))
    stopped = stored(core.handle(run, bad("b", 1, m.FRAGMENT_STATE_FAILED, "stopped")))
    beside = messages.Replaced(("a",), 3, b"q", fragments("n", "r.-3", 9, "cd"), 9.0)
    [refused] = core.handle(stopped, beside)
    assert isinstance(refused, messages.Refuse)
    instead = messages.Replaced(("a",), 3, b"q", fragments("n", "r", 9, "cd"), 9.0)
    assert set(stored(core.handle(stopped, instead)).fragments) == set("cd")
