"""Steps that need each other: none too early, many at a time, and no further once one has failed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from bdw_fed.kind.steps import Begun, Done, Step, carry_out

PATIENCE = 30.0


def saying(word: str) -> Callable[[], str]:
    return lambda: word


def test_a_step_waits_for_what_it_needs_and_says_what_it_did() -> None:
    steps = [Step("c", saying("3"), ("a", "b")), Step("a", saying("1")), Step("b", saying("2"), ("a",))]
    events = list(carry_out(steps, at_once=3))
    assert [(type(event), event.step.name) for event in events] == [
        (kind, name) for name in ("a", "b", "c") for kind in (Begun, Done)
    ]
    assert [event.said for event in events if isinstance(event, Done)] == ["1", "2", "3"]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_so_many_are_under_way_at_once_and_no_more(at_once: int) -> None:
    together = threading.Barrier(at_once)

    def meet() -> str:
        together.wait(PATIENCE)  # broken, and so an error, unless so many are here
        return ""

    under_way = most = 0
    for event in carry_out([Step(str(number), meet) for number in range(3 * at_once)], at_once):
        under_way += 1 if isinstance(event, Begun) else -1
        most = max(most, under_way)
    assert most == at_once


def fail() -> str:
    raise ValueError("no")


def test_after_a_failure_nothing_is_begun() -> None:
    events = []
    with pytest.raises(ValueError, match="no"):
        for event in carry_out([Step("fail", fail), Step("next", saying(""))], at_once=1):
            events.append(event.step.name)
    assert events == ["fail"]


def test_what_is_under_way_when_another_fails_is_awaited() -> None:
    failing = threading.Event()
    ended = []

    def fail_first() -> str:
        failing.set()
        return fail()

    def linger() -> str:
        assert failing.wait(PATIENCE)
        ended.append("linger")
        return ""

    with pytest.raises(ValueError, match="no"):
        list(carry_out([Step("linger", linger), Step("fail", fail_first)], at_once=2))
    assert ended == ["linger"]
