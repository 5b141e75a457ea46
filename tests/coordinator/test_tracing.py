"""Units have one name by their lineage when they came of the same beginnings in the same way, and only then."""

from __future__ import annotations

from functools import reduce
from itertools import zip_longest
from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.tasks.tracing import Maker, lineage, name

ZIPPING = cast(LiveRun, SimpleNamespace(graph=SimpleNamespace(zips=True)))
numbers = st.lists(st.sampled_from([0, 0, 1, 2, 10]), max_size=6)


def named(part: int, indices: list[int]) -> str:
    return name(reduce(lambda found, index: lineage(ZIPPING, Maker(found, ""), index), indices, str(part)))


def test_noughts_at_the_end_make_no_difference_and_others_do() -> None:
    assert named(0, []) == named(0, [0, 0]) == "0"
    assert named(2, [5]) == named(2, [5, 0]) == "2.5"
    assert named(0, [0, 1]) == "0.0.1"
    assert named(0, [1]) == named(0, [1, 0]) == "0.1"


@given(st.integers(0, 3), numbers, st.integers(0, 3), numbers)
def test_two_ways_lead_to_one_name_if_their_numbers_are_the_same(
    part: int, one: list[int], other_part: int, other: list[int]
) -> None:
    same = part == other_part and all(a == b for a, b in zip_longest(one, other, fillvalue=0))
    assert (named(part, one) == named(other_part, other)) == same


def test_a_long_chain_has_a_short_lineage() -> None:
    found = reduce(lambda found, index: lineage(ZIPPING, Maker(found, ""), index), [0] * 10_000, "3")
    assert found == "3+10000"
