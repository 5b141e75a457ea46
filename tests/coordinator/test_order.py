"""Units know their place in the order of lineage, where somebody will ask for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.tasks.tracing import rank

PLACES = st.lists(st.integers(0, 2**40), max_size=5).map(tuple)


@given(PLACES, PLACES)
def test_places_sort_as_the_indices_on_the_way_do(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Of ways of one length, and of ways of which one is the beginning of the other."""
    length = min(len(one), len(other))
    ranked = [b"".join(map(rank, place)) for place in (one, other)]
    if one[:length] != other[:length]:
        assert (ranked[0] < ranked[1]) == (one < other)
    assert (ranked[0] == ranked[1]) == (one == other)
