"""Two ends speak the newest version that both know, and find the same one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.versions import PEERS, SESSION, Versions

SPANS = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda ends: Versions(min(ends), max(ends)))


@given(SPANS, SPANS)
def test_both_find_the_newest_that_both_speak(ours: Versions, theirs: Versions) -> None:
    both = [version for version in range(7) if version in ours and version in theirs]
    assert ours.common(theirs) == theirs.common(ours) == max(both, default=None)


@given(SPANS, st.integers(1, 6))
def test_with_what_can_t_be_meant_nothing_is_in_common(ours: Versions, newest: int) -> None:
    assert ours.common(Versions(newest + 1, newest)) is None


def test_the_release_before_is_spoken_too() -> None:
    for versions in (SESSION, PEERS):
        assert 1 <= versions.oldest <= max(1, versions.newest - 1)
