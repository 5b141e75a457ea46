"""Attempts to reserve a run's slots that more than one hub has planned: each is begun once, and none of them late."""

from __future__ import annotations

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs import core, messages

CLUSTERS = ("edge", "cloud")
EPOCH = 7


def queued() -> m.Run:
    """A run that waits for its slots on both clusters."""
    return happened(
        m.Run(namespace="default", name="r", state=m.RUN_STATE_PENDING),
        messages.Queued(1, b"plan", "hold", CLUSTERS),
    )


def attempt(
    number: int, epoch: int = EPOCH, plan: bytes = b"plan", clusters: tuple[str, ...] = CLUSTERS
) -> messages.Reserving:
    """As a hub has planned it."""
    fragments = tuple(m.Fragment(namespace="default", run="r", cluster=name, epoch=epoch) for name in clusters)
    return messages.Reserving(number, epoch, 1, plan, fragments, {}, 10.0)


def answer(cluster: str, reason: str = "", epoch: int = EPOCH) -> messages.Answered:
    return messages.Answered(cluster, epoch, not reason, reason, 1.0)


def happened(run: m.Run, event: messages.Event) -> m.Run:
    """The run after an event that changes it."""
    (stored,) = (action.run for action in core.handle(run, event) if isinstance(action, messages.StoreRun))
    return stored


def refused(run: m.Run, event: messages.Event) -> bool:
    return [type(action) for action in core.handle(run, event)] == [messages.Refuse]


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1], ids=["of the same revision", "of another revision"])
def test_an_attempt_that_another_hub_has_begun_is_not_begun_with_another_plan(epoch: int) -> None:
    run = happened(queued(), attempt(1))
    assert refused(run, attempt(1, epoch, b"other", ("edge", "elsewhere")))
    assert not refused(run, attempt(1)), "the same once more may be: its orders may not have been stored"
    assert all(isinstance(each, messages.StoreFragments) for each in core.handle(run, attempt(1)))


def test_a_plan_from_before_another_hubs_attempt_begins_nothing_after_it() -> None:
    """What the edge has said of the first attempt would count for one of the same epoch, and it holds nothing now."""
    run = happened(queued(), attempt(1))
    run = happened(run, answer("cloud", "cloud is full"))
    assert refused(run, attempt(1))
    again = happened(run, attempt(2, EPOCH + 1))
    assert again.reservation.attempts == 2
    assert core.handle(again, answer("edge")) == [], "of the attempt that is over"


def test_a_run_that_runs_is_not_tried_again() -> None:
    run = happened(queued(), attempt(1))
    for cluster in CLUSTERS:
        run = happened(run, answer(cluster))
    assert run.state == m.RUN_STATE_RUNNING
    assert refused(run, attempt(1))
    assert refused(run, attempt(2, EPOCH + 1))
