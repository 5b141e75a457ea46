"""A quantity means exactly what it means to Kubernetes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.runtimes.kubernetes.api.quantity import parse, write
from topology.errors import WrongValue


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", Fraction(0)),
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("2.", Fraction(2)),
        ("1Gi", Fraction(2**30)),
        ("1.5Gi", Fraction(3 * 2**29)),
        ("100M", Fraction(10**8)),
        ("1k", Fraction(1000)),
        ("1e3", Fraction(1000)),
        ("1E3", Fraction(1000)),
        ("1E", Fraction(10**18)),
        ("1Ei", Fraction(2**60)),
        ("25e-1", Fraction(5, 2)),
        ("+1", Fraction(1)),
        ("-1500m", Fraction(-3, 2)),
        ("128974848000m", Fraction(128974848)),
        ("1n", Fraction(1, 10**9)),
        ("7u", Fraction(7, 10**6)),
        ("0.1n", Fraction(1, 10**9)),  # too fine: rounded away from zero
        ("-0.1n", Fraction(-1, 10**9)),
        ("100E", Fraction(2**63 - 1)),  # too large: the most there is
        ("-1e999", Fraction(-(2**63 - 1))),
    ],
)
def test_every_spelling_of_the_api_is_read_exactly(text: str, value: Fraction) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("text", ["", ".", "m", "1 Gi", "1gi", "1K", "1KiB", "1e", "e3", "1e3Gi", "--1", "1,5", "١"])
def test_what_the_api_refuses_is_refused(text: str) -> None:
    with pytest.raises(WrongValue, match="is not a quantity"):
        parse(text)


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from([1, 1000, 10**6]), st.booleans())
def test_what_is_written_is_read_as_the_same(number: int, parts: int, binary: bool) -> None:
    value = Fraction(number, parts)
    assert parse(write(value, binary=binary)) == value


@pytest.mark.parametrize(
    ("value", "binary", "text"),
    [
        (Fraction(1, 2), False, "500m"),
        (Fraction(4), False, "4"),
        (Fraction(2**30), True, "1Gi"),
        (Fraction(2**30), False, "1073741824"),
        (Fraction(10**8), True, "100M"),
        (Fraction(0), True, "0"),
    ],
)
def test_the_spelling_is_the_shortest_exact_one(value: Fraction, binary: bool, text: str) -> None:
    assert write(value, binary=binary) == text
