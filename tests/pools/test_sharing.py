"""Room is shared by those that wait for it, the least served first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.pools.sharing import pour


def test_the_least_served_come_up_to_the_others_before_these_get_more() -> None:
    assert pour(4.0, {"big": 100.0, "small": 0.0, "other": 2.0}) == {"small": 3.0, "other": 1.0, "big": 0.0}
    assert pour(3.0, {"one": 0.0, "two": 0.0, "three": 0.0}) == {"one": 1.0, "two": 1.0, "three": 1.0}


def test_who_waits_alone_gets_all() -> None:
    assert pour(5.0, {"one": 7.0}) == {"one": 5.0}
    assert pour(5.0, {}) == {}


@given(st.floats(0, 1e3), st.dictionaries(st.integers(), st.floats(0, 1e3), min_size=1, max_size=8))
def test_all_is_given_and_nobody_is_raised_above_another(free: float, used: dict[int, float]) -> None:
    shares = pour(free, used)
    assert list(shares) == sorted(used, key=lambda key: used[key])
    assert sum(shares.values()) == pytest.approx(free, abs=1e-6)
    raised = [used[key] + share for key, share in shares.items() if share > 1e-9]
    assert not raised or max(raised) - min(raised) < 1e-6
    assert all(used[key] >= max(raised, default=0.0) - 1e-6 for key, share in shares.items() if share <= 1e-9)
