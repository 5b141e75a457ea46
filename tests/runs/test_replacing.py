"""A run that begins again has one line of history, and nothing of an older one counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.liveness import Attention
from control_plane.kinds import Kinds
from control_plane.runs import core, forms, messages
from control_plane.runs.driver import Runs
from control_plane.runs.errors import Refused
from control_plane.runs.replacing import MOST_FRAGMENTS, objection, verdict

POLICY = m.Policy(replace=True, lost_after=30)


def fragments(namespace: str, epoch: int, *clusters: str) -> tuple[m.Fragment, ...]:
    return tuple(
        m.Fragment(namespace=namespace, run="r", cluster=cluster, epoch=epoch, revision=epoch, policy=POLICY)
        for cluster in clusters
    )


async def submitted(runs: Runs, namespace: str) -> m.Run:
    run = m.Run(namespace=namespace, name="r", workflow="w", idempotency_key="k", submitted_at=1.0)
    return await runs.submit(run, messages.Planned(1, b"p", fragments(namespace, 1, "a", "b", "c"), 2.0))


def without_a(namespace: str, revision: int = 2) -> messages.Replaced:
    return messages.Replaced(("a",), revision, b"q", fragments(namespace, 7, "b", "c", "d"), 9.0)


def ended(namespace: str, cluster: str, epoch: int, *units: int, unheard: Sequence[str] = ()) -> messages.FragmentEnded:
    outputs = [m.RunOutput(name="o", unit=m.Unit(id=bytes([unit] * 16)), cluster=cluster) for unit in units]
    state = m.FRAGMENT_STATE_SUCCEEDED
    status = m.FragmentStatus(
        namespace=namespace, run="r", cluster=cluster, epoch=epoch, state=state, outputs=outputs, unheard=unheard
    )
    return messages.FragmentEnded(status, epoch, 3.0, ())


async def test_all_assignments_change_with_the_run(kinds: Kinds, runs: Runs, namespace: str) -> None:
    await submitted(runs, namespace)
    run = await runs.happened(namespace, "r", without_a(namespace))
    assert {name: part.epoch for name, part in run.fragments.items()} == {"b": 7, "c": 7, "d": 7}
    assert (run.plan_revision, list(run.replaced), run.state) == (2, ["a"], m.RUN_STATE_RUNNING)
    wanted = {}
    for cluster in "abcd":
        stored = await kinds.fragments.get(kinds.fragments.key(cluster, namespace, "r"))
        assert stored is not None
        wanted[cluster] = (stored.value.fragment.epoch, stored.value.desired)
    running = m.DESIRED_STATE_RUNNING
    assert wanted == {"a": (1, m.DESIRED_STATE_FORGOTTEN), "b": (7, running), "c": (7, running), "d": (7, running)}


async def test_outputs_of_an_older_epoch_are_never_published(runs: Runs, namespace: str) -> None:
    await submitted(runs, namespace)
    await runs.happened(namespace, "r", ended(namespace, "b", 1, 1))
    await runs.happened(namespace, "r", without_a(namespace))
    await runs.happened(namespace, "r", ended(namespace, "a", 1, 2))
    await runs.happened(namespace, "r", ended(namespace, "b", 7, 3))
    run = await runs.get(namespace, "r")
    assert [made.unit.id[0] for made in await runs.outputs(run)] == [3]


async def test_of_two_hubs_that_replace_one_decides(runs: Runs, namespace: str) -> None:
    await submitted(runs, namespace)
    await runs.happened(namespace, "r", without_a(namespace))
    with pytest.raises(Refused, match="has come further"):
        await runs.happened(namespace, "r", without_a(namespace))
    assert (await runs.happened(namespace, "r", without_a(namespace, 3))).plan_revision == 3


async def test_a_run_that_is_stopped_in_the_same_moment_stops_everywhere(
    kinds: Kinds, runs: Runs, namespace: str
) -> None:
    await submitted(runs, namespace)
    await asyncio.gather(
        runs.happened(namespace, "r", without_a(namespace)),
        runs.happened(namespace, "r", messages.CancelRequested("enough", 9.0)),
    )
    for cluster in "bcd":
        stored = await kinds.fragments.get(kinds.fragments.key(cluster, namespace, "r"))
        assert stored is not None
        assert stored.value.desired == m.DESIRED_STATE_CANCELLED
        assert stored.value.fragment.epoch == 7


def running() -> m.Run:
    run = m.Run(namespace="n", name="r", state=m.RUN_STATE_RUNNING, plan_revision=1)
    for cluster in "abc":
        run.fragments[cluster].CopyFrom(m.FragmentStatus(cluster=cluster, epoch=1, state=m.FRAGMENT_STATE_RUNNING))
        run.replace_after[cluster] = 30
    return run


def test_a_cluster_is_lost_once_it_was_silent_for_long_enough_and_its_part_has_not_ended() -> None:
    run = running()
    assert verdict(run, {"a": 29.0, "b": 1.0}).lost == ()
    assert verdict(run, {"a": 29.0, "b": 1.0}).next_in == pytest.approx(1.0)
    assert verdict(run, {"a": 30.0, "b": 31.0}).lost == ("a", "b")
    run.fragments["a"].state = m.FRAGMENT_STATE_SUCCEEDED
    assert verdict(run, {"a": 99.0}).lost == ()
    del run.replace_after["b"]
    assert verdict(run, {"b": 99.0}).lost == ()
    run.state = m.RUN_STATE_STOPPING
    assert verdict(run, {"c": 99.0}).lost == ()


def test_a_cluster_whose_part_has_ended_is_lost_while_somebody_lacks_its_last_words() -> None:
    run = after(running(), ended("n", "a", 1, unheard="bz"))
    assert verdict(run, {"a": 99.0}).lost == ("a",)
    assert verdict(run, {}, gone=["a"]).lost == (), "nothing of the run is left there that a drain could end"
    assert forms.absence(run, ["a"]) == "a out of touch: its part has ended, but its last words have not reached b"
    assert "b out of touch" in forms.absence(run, ["a", "b"])
    over = after(run, ended("n", "b", 1))
    assert verdict(over, {"a": 99.0}).lost == (), "who has ended needs no word any more"
    assert forms.absence(over, ["a", "b"]) == ""
    heard = after(run, messages.FragmentHeard("a", 1))
    assert verdict(heard, {"a": 99.0}).lost == ()
    assert core.handle(heard, messages.FragmentHeard("a", 1)) == []
    assert core.handle(run, messages.FragmentHeard("a", 0)) == [], "that was another fragment"


def has_stopped(run: m.Run, cluster: str) -> messages.FragmentEnded:
    status = m.FragmentStatus(cluster=cluster, epoch=1, state=m.FRAGMENT_STATE_FAILED)
    status.failures.add(cluster=cluster, kind="stopped", message=f"{cluster} has stopped its part")
    return messages.FragmentEnded(status, 1, 3.0, ())


def after(run: m.Run, event: messages.Event) -> m.Run:
    [stored] = [each for each in core.handle(run, event) if isinstance(each, messages.StoreRun)]
    return stored.run


def test_a_part_that_stopped_by_itself_fails_the_run_unless_it_may_begin_again() -> None:
    run = running()
    stopped = after(run, has_stopped(run, "a"))
    assert (stopped.state, verdict(stopped, {}).stopped) == (m.RUN_STATE_RUNNING, ("a",))
    for cluster in "bc":
        state = m.FRAGMENT_STATE_SUCCEEDED
        stopped = after(
            stopped, messages.FragmentEnded(m.FragmentStatus(cluster=cluster, epoch=1, state=state), 1, 4.0, ())
        )
    assert stopped.state == m.RUN_STATE_RUNNING, "it succeeded without the part that stopped"
    again = after(stopped, messages.Replaced((), 2, b"q", fragments("n", 7, "a", "b"), 5.0))
    assert (list(again.stopped), set(again.fragments)) == ([], {"a", "b"})
    del run.replace_after["a"]
    failed = after(run, has_stopped(run, "a"))
    assert (failed.state, failed.ending) == (m.RUN_STATE_STOPPING, m.RUN_STATE_FAILED)
    assert "a has stopped its part" in failed.message


@pytest.mark.parametrize("state", [m.FRAGMENT_STATE_ASSIGNED, m.FRAGMENT_STATE_RUNNING, m.FRAGMENT_STATE_SUCCEEDED])
def test_a_run_does_not_wait_for_a_part_that_is_lost_with_its_log(state: m.FragmentState.ValueType) -> None:
    """It begins again or fails; and the coordinator with the new log gets no fragment of an epoch that it has lost."""
    run = running()
    run.fragments["a"].state = state
    lost = messages.LogLost("a", 1, 3.0)
    taken_back = messages.SetDesired(("a",), m.DESIRED_STATE_FORGOTTEN)
    assert taken_back in core.handle(run, lost)
    begins_again = after(run, lost)
    assert (begins_again.state, verdict(begins_again, {}).stopped) == (m.RUN_STATE_RUNNING, ("a",))
    assert list(after(begins_again, lost).stopped) == ["a"]
    again = after(begins_again, messages.Replaced((), 2, b"q", fragments("n", 7, "a", "b"), 5.0))
    assert "a: its coordinator has lost its log" in again.message
    assert core.handle(again, lost) == [], "it is of an older epoch"
    del run.replace_after["a"]
    assert taken_back in core.handle(run, lost)
    failed = after(run, lost)
    assert (failed.state, failed.ending) == (m.RUN_STATE_STOPPING, m.RUN_STATE_FAILED)
    assert "failed on a (lost): its coordinator has lost its log" in failed.message


def test_a_run_whose_parts_have_all_stopped_can_be_cancelled() -> None:
    run = running()
    for cluster in "abc":
        run = after(run, has_stopped(run, cluster))
    assert after(run, messages.CancelRequested("enough", 9.0)).state == m.RUN_STATE_CANCELLED


def test_a_hub_that_stood_still_takes_nobody_for_lost_by_its_own_silence() -> None:
    attention = Attention(100.0)
    for now in range(100, 160):
        assert attention.listened(float(now)) == now - 100.0
        attention.next_at(now + 1.0)
    assert attention.listened(400.0) == 0.0, "it has heard nobody for four minutes because it stood still"
    attention.next_at(401.0)
    assert attention.listened(402.0) == 2.0


def test_a_plan_that_needs_a_lost_or_silent_cluster_replaces_none() -> None:
    plan = {cluster: m.Fragment(cluster=cluster) for cluster in "ab"}
    plan["a"].sources.add(step="inputs.rows")
    assert "inputs.rows is read there" in (objection(["a"], plan, []) or "")
    assert "before b is back" in (objection(["c"], plan, ["b"]) or "")
    assert objection(["c"], plan, ["c", "d"]) is None
    many = {f"c{number}": m.Fragment() for number in range(MOST_FRAGMENTS + 1)}
    assert "too large" in (objection(["a"], many, []) or "")


def test_what_the_run_waits_for_is_said_until_it_does_not_any_more() -> None:
    run = running()
    [stored] = core.handle(run, messages.Irreplaceable("a is away"))
    assert isinstance(stored, messages.StoreRun)
    assert stored.run.message == "waits for a lost cluster: a is away"
    assert core.handle(stored.run, messages.Irreplaceable("a is away")) == []
    [cleared] = core.handle(stored.run, messages.Irreplaceable(""))
    assert isinstance(cleared, messages.StoreRun)
    assert cleared.run.message == ""
    assert core.handle(run, messages.Irreplaceable("")) == []
