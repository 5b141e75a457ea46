"""What was measured decides; what is declared stands in before, beside and after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.clusters.measured import Line, Link

sizes = st.floats(0, 1e9)
times = st.floats(0, 1e4)
observations = st.lists(st.tuples(sizes, times, st.floats(0, 100)), max_size=40)


def observed(seen: list[tuple[float, float, float]], fixed: float, per_byte: float) -> tuple[Line, float]:
    line, now = Line(fixed, per_byte), 0.0
    for size, seconds, later in seen:
        now += later
        line.observe(size, seconds, now)
    return line, now


@given(observations, st.floats(0, 10), st.floats(0, 1e-3), sizes, st.floats(0, 1e5))
def test_no_expectation_is_negative_or_without_bound(
    seen: list[tuple[float, float, float]], fixed: float, per_byte: float, size: float, later: float
) -> None:
    line, now = observed(seen, fixed, per_byte)
    fit = line.fit(now + later)
    assert fit.fixed >= 0
    assert fit.per_byte >= 0
    assert 0 <= fit.seconds(size) < float("inf")
    assert fit.mean >= 0


@given(st.floats(0, 10), st.floats(0, 1e-3), sizes)
def test_without_observations_what_is_declared_holds(fixed: float, per_byte: float, size: float) -> None:
    assert Line(fixed, per_byte).fit(5.0).seconds(size) == pytest.approx(fixed + size * per_byte)


@given(st.floats(1e-3, 10), st.floats(1e-10, 1e-6), st.lists(sizes, min_size=3, max_size=30))
def test_what_lies_on_a_line_is_found_again_at_any_size_that_was_seen(
    fixed: float, per_byte: float, seen: list[float]
) -> None:
    line = Line(fixed, per_byte)
    wrong = Line(fixed * 3, per_byte * 3)
    for size in seen * 40:
        for each in (line, wrong):
            each.observe(size, fixed + size * per_byte, 1.0)
    for size in seen:
        assert line.fit(1.0).seconds(size) == pytest.approx(fixed + size * per_byte)
        assert 0.5 <= wrong.fit(1.0).seconds(size) / (fixed + size * per_byte) <= 2.0, "whatever was declared"


def test_small_and_large_are_learned_beside_each_other() -> None:
    line = Line(1.0, 0.0)
    for _ in range(30):
        line.observe(1_000, 0.002, 1.0)
        line.observe(100_000_000, 5.0, 1.0)
    assert line.fit(1.0).seconds(1_000) == pytest.approx(0.002, rel=1)
    assert line.fit(1.0).seconds(100_000_000) == pytest.approx(5.0, rel=0.05)


def test_a_guess_gives_way_to_the_first_task_and_what_it_says_of_other_sizes() -> None:
    line = Line(0.1, 0.0, guessed=True)
    assert line.fit(0.0).seconds(10e6) == pytest.approx(0.1)
    line.observe(1e6, 0.02, 1.0)
    assert line.fit(1.0).seconds(1e6) == pytest.approx(0.02)
    assert line.fit(1.0).seconds(10e6) == pytest.approx(0.2, rel=0.1)
    assert line.fit(1e6).seconds(1e6) == pytest.approx(0.02), "it is all that anybody knows"


def test_what_is_new_outweighs_what_is_old() -> None:
    line = Line(1.0, 0.0)
    for _ in range(100):
        line.observe(0, 1.0, 1.0)
    for _ in range(200):
        line.observe(0, 3.0, 2.0)
    assert line.fit(2.0).mean == pytest.approx(3.0, rel=0.1)


@given(st.floats(0.1, 10), st.integers(1, 60))
def test_in_the_long_run_what_is_declared_comes_back(seconds: float, count: int) -> None:
    line = Line(1.0, 0.0)
    for _ in range(count):
        line.observe(0, seconds, 0.0)
    soon, late = (abs(line.fit(now).seconds(0) - 1.0) for now in (1.0, 1e5))
    assert late <= soon + 1e-9
    assert late < 1e-6


@given(st.lists(st.tuples(st.floats(0.001, 5), st.floats(0.001, 20)), min_size=1, max_size=30))
def test_a_link_is_charged_for_no_second_twice(transfers: list[tuple[float, float]]) -> None:
    """Transfers that share it and end one after the other: together they are charged at most the time that passed."""
    link, now = Link(0.0, 1e6), 0.0
    first = float("inf")
    charged = []
    for later, seconds in transfers:
        now += later
        begun = max(0.0, now - seconds)
        first = min(first, begun)
        charged.append(link.arrived(1e6, now - begun, now))
    assert min(charged) >= 0
    if all(later < seconds - 1e-9 for later, seconds in transfers):  # never idle in between, however it is rounded
        assert sum(charged) == pytest.approx(now - first, abs=1e-6)


def test_six_transfers_at_a_time_show_what_the_link_carries() -> None:
    link = Link(0.0, 1e3)
    for wave in range(1, 30):
        for _ in range(6):
            link.arrived(10e6, 1.0, float(wave))
    assert 1 / link.line.fit(29.0).per_byte == pytest.approx(60e6, rel=0.2)
