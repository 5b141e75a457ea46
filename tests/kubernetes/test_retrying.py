"""How long is waited before another try, and which failures get one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.runtimes.kubernetes.api.backoff import LONGEST_ASKED, MOST, delay, retry_after
from cluster_agent.runtimes.kubernetes.api.errors import (
    AlreadyExists,
    ApiError,
    Forbidden,
    Gone,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from cluster_agent.runtimes.kubernetes.api.retrying import worth_retrying

CHANCE = st.floats(0, 1)


@given(st.integers(1, 1000), CHANCE)
def test_a_wait_is_never_longer_than_the_cap(failures: int, chance: float) -> None:
    assert 0 <= delay(failures).drawn(chance) <= MOST


@given(st.integers(1, 40), CHANCE)
def test_the_bound_grows_with_each_failure_and_the_whole_of_it_is_used(failures: int, chance: float) -> None:
    assert delay(failures + 1).drawn(chance) >= delay(failures).drawn(chance)
    assert delay(failures).drawn(0.0) == 0.0
    assert delay(failures).drawn(1.0) == delay(failures).most


@given(st.integers(1, 40), st.floats(0.001, 10**6), CHANCE)
def test_the_servers_word_is_never_undercut_but_for_nonsense(failures: int, asked: float, chance: float) -> None:
    waited = delay(failures, asked).drawn(chance)
    assert waited >= min(asked, LONGEST_ASKED)
    assert waited <= LONGEST_ASKED * 1.1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), (" 3 ", 3.0), ("-1", None), ("soon", None), ("٣", None), ("9" * 30, LONGEST_ASKED)],
)
def test_a_header_that_is_no_number_of_seconds_is_passed_over(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


@pytest.mark.parametrize(
    ("error", "repeatable", "again"),
    [
        (TooManyRequests("x"), False, True),
        (Unavailable("x"), True, True),
        (Unavailable("x"), False, False),
        (Unavailable("x", uncertain=False), False, True),
        (NotFound("x"), True, False),
        (AlreadyExists("x"), True, False),
        (Forbidden("x"), True, False),
        (Gone("x"), True, False),
    ],
)
def test_only_what_does_no_harm_is_tried_again(error: ApiError, repeatable: bool, again: bool) -> None:
    assert worth_retrying(error, repeatable=repeatable) == again
