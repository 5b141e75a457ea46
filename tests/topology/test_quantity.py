"""Quantities: what people write means what they mean, and the canonical spelling says exactly the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.errors import WrongValue
from topology.quantity import (
    format_bandwidth,
    format_cpus,
    format_duration,
    format_size,
    parse_bandwidth,
    parse_cpus,
    parse_duration,
    parse_size,
)

WRONG: tuple[object, ...] = (None, True, "", "lots", "-1", -1, math.nan, math.inf, [], {})
PARSERS = (parse_size, parse_bandwidth, parse_duration, parse_cpus)


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parse_size, "4Gi", 4 * 2**30),
        (parse_size, "4GiB", 4 * 2**30),
        (parse_size, "100MB", 100_000_000),
        (parse_size, "1.5Ki", 1536),
        (parse_size, 0, 0),
        (parse_bandwidth, "100Mbit", 12.5e6),
        (parse_bandwidth, "100Mbit/s", 12.5e6),
        (parse_bandwidth, "100Mbps", 12.5e6),
        (parse_bandwidth, "12MB/s", 12e6),
        (parse_bandwidth, "1bit", 0.125),
        (parse_duration, "20ms", 0.02),
        (parse_duration, "1h30m", 5400.0),
        (parse_duration, "0", 0.0),
        (parse_duration, 60, 60.0),
        (parse_duration, 1.5, 1.5),
        (parse_cpus, 2, 2.0),
        (parse_cpus, "500m", 0.5),
        (parse_cpus, 0.25, 0.25),
    ],
)
def test_units_mean_what_people_mean(parse: Callable[[object], float], text: object, expected: float) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse, wrong) for parse in PARSERS for wrong in WRONG),
        (parse_size, "0.3"),
        (parse_size, "1m"),
        (parse_size, "2000Pi"),
        (parse_size, 2**61),
        (parse_bandwidth, 100),
        (parse_bandwidth, "100"),
        (parse_bandwidth, "100M"),
        (parse_bandwidth, "0bit"),
        (parse_duration, "5 minutes"),
        (parse_duration, "0.1us"),
        (parse_duration, "40000d"),
        (parse_cpus, 0),
        (parse_cpus, "0.0001"),
        (parse_cpus, 10**400),
    ],
)
def test_what_has_no_clear_meaning_is_refused_with_a_remedy(parse: Callable[[object], float], text: object) -> None:
    with pytest.raises(WrongValue) as wrong:
        parse(text)
    assert wrong.value.remedy


@given(st.integers(0, 2**60))
def test_a_size_survives_its_spelling(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(1, 10**15))
def test_a_bandwidth_survives_its_spelling(bits: int) -> None:
    bandwidth = parse_bandwidth(f"{bits}bit")
    assert bandwidth == bits / 8
    assert parse_bandwidth(format_bandwidth(bandwidth)) == bandwidth


@given(st.integers(0, 100 * 365 * 86400 * 10**6))
def test_a_duration_survives_its_spelling(microseconds: int) -> None:
    duration = parse_duration(f"{microseconds}us") if microseconds else 0.0
    assert parse_duration(format_duration(duration)) == duration


@given(st.floats(0, 1e9))
def test_a_number_of_seconds_is_kept_to_the_microsecond(seconds: float) -> None:
    try:
        duration = parse_duration(seconds)
    except WrongValue:
        assert 0 < seconds < 1e-6
        return
    assert abs(duration - seconds) <= 0.5e-6 + 1e-15 * seconds
    assert parse_duration(format_duration(duration)) == duration


@given(st.integers(1, 10**9))
def test_processors_survive_their_spelling(thousandths: int) -> None:
    cpus = parse_cpus(f"{thousandths}m")
    assert parse_cpus(format_cpus(cpus)) == cpus


@given(st.text(max_size=30) | st.integers() | st.floats() | st.none() | st.booleans())
def test_a_parser_refuses_in_words_or_gives_a_number_that_can_be_stored(value: object) -> None:
    for parse in PARSERS:
        with suppress(WrongValue):
            assert 0 <= parse(value) < math.inf


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_size(4 * 2**30), "4Gi"),
        (format_size(100_000_000), "100M"),
        (format_size(1023), "1023"),
        (format_size(0), "0"),
        (format_bandwidth(12.5e6), "100Mbit"),
        (format_duration(300.0), "5m"),
        (format_duration(90.0), "90s"),
        (format_duration(0.02), "20ms"),
        (format_duration(0.0), "0s"),
        (format_cpus(2.0), 2),
        (format_cpus(0.5), 0.5),
    ],
)
def test_the_canonical_spelling_is_the_one_that_people_would_write(shown: object, expected: object) -> None:
    assert shown == expected
