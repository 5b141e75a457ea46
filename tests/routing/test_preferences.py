"""Looking at load pays: by `finish` a chain over two edges and a cloud takes no longer than by `distance`, and far less
crosses between the zones.

On virtual time: the links carry what they are said to (or a tenth of it), workers take a while to start, and nothing
else disturbs. So makespans may be compared, and each comparison comes out the same on every machine. A single run may
be behind by what `expected` takes for no difference, since which task is the last one is chance; on the mean the two
are level at least.
"""

from __future__ import annotations

from itertools import product
from math import fsum
from statistics import geometric_mean

import pytest

from tests.routing.chain import Load, Ran, run

DOUBT = 0.1  # of the makespan; see expected.py
SURE = 0.1  # seconds: what a step may be wrong by, at the run's beginning and at its end
LEVEL = 0.02  # of the makespan, on the mean
WITH_ROOM = [Load(*each) for each in product(("echo", "shuffle"), (2, 3), (1, 10, 100))]
BUSY = [Load(*each) for each in product(("echo", "shuffle"), (20, 30, 35), (1, 10, 100))]
SHUFFLED = [load for load in BUSY if load.body == "shuffle"]

Rows = dict[Load, tuple[Ran, Ran]]  # by distance, by finish


def compared(loads: list[Load], *, removed: str = "", slower: float = 1.0, warm: bool = False) -> Rows:
    """Both preferences side by side."""
    options = {"removed": removed, "slower": slower, "warm": warm}
    return {load: (run(load, "distance", **options), run(load, "finish", **options)) for load in loads}  # type: ignore[arg-type]


def table(rows: Rows) -> str:
    """For a test that fails: what each load took and what crossed."""
    found = ""
    for load, (distance, finish) in rows.items():
        found += f"\n{load.body} {load.units} x {load.megabytes} MB an edge, at least {load.least / 1e6:.0f} MB cross"
        found += f"; distance {distance.makespan:.2f} s, {distance.crossed / 1e6:.0f} MB"
        found += f"; finish {finish.makespan:.2f} s, {finish.crossed / 1e6:.0f} MB"
    return found


def ratio(rows: Rows) -> float:
    """How long finish takes for each second of distance, on the mean."""
    return geometric_mean(finish.makespan / distance.makespan for distance, finish in rows.values())


def excess(rows: Rows) -> tuple[float, float]:
    """Bytes that crossed beyond the least, as parts of that, over all loads."""
    by_distance, by_finish = (
        fsum(pair[which].crossed / load.least - 1.0 for load, pair in rows.items()) for which in (0, 1)
    )
    return by_distance, by_finish


def check_not_slower(rows: Rows) -> None:
    for load, (distance, finish) in rows.items():
        assert finish.makespan <= distance.makespan * (1.0 + DOUBT) + SURE, f"{load}: {table(rows)}"
    assert ratio(rows) <= 1.0 + LEVEL, f"slower on the mean: {table(rows)}"
    by_distance, by_finish = excess(rows)
    assert by_finish < 0.9 * by_distance, f"too much crosses: {table(rows)}"


@pytest.mark.parametrize("warm", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_with_room_everywhere_each_unit_crosses_once_and_nothing_else_does(warm: bool) -> None:
    for load, (distance, finish) in compared(WITH_ROOM, warm=warm).items():
        assert finish.crossed == distance.crossed == load.least
        assert finish.makespan == pytest.approx(distance.makespan)
        assert finish.tasks["cloud1"] == 0


@pytest.mark.slow
def test_under_ten_times_the_load_finish_is_not_slower_and_less_crosses() -> None:
    check_not_slower(compared(BUSY))


@pytest.mark.slow
def test_nor_is_it_where_workers_are_warm_or_links_carry_a_tenth_of_what_is_declared() -> None:
    check_not_slower(compared(SHUFFLED, warm=True))
    check_not_slower(compared(SHUFFLED, slower=10.0))


@pytest.mark.slow
def test_it_is_faster_when_an_edge_loses_its_workers_in_the_middle() -> None:
    rows = compared(BUSY, removed="edge1")
    check_not_slower(rows)
    assert ratio(rows) < 1.0
    for load, (_, finish) in rows.items():
        assert 0 < finish.tasks["edge1"] < 3 * load.units, "it had begun, and went no further"
