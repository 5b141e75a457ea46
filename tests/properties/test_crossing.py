"""Each unit of one port meets each of the other in one task, on whichever cluster, and is consumed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.coordinator.desk import Desk, unit_ids
from tests.coordinator.federation import Faults
from tests.coordinator.workflows import CROSS, EACH, GATHER, Use, output, some_of, source
from tests.properties.graphs import Parts
from tests.properties.worlds import World
from tests.settings import few


def grown(random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
    """Two datasets that lie here and there; what comes of their pairs is gathered."""
    some = partial(some_of, random, clusters)
    rows, table = source("rows", some()), source("table", some())
    inputs = {"a": ("inputs.table.out", CROSS), "b": ("inputs.rows.out", EACH)}
    crossed = Use("crossed", some(), inputs, counter=random.choice(list(clusters)))
    gather = Use("gather", some()[:1], {"parts": ("crossed.out", GATHER)})
    parts = {step.name: {at: random.randint(0, 3) for at in step.executors} for step in (rows, table)}
    return [rows, table, crossed, gather, output(gather)], parts


def crossed(seed: int, faults: Faults | None = None) -> World:
    world = World(seed, faults, grow=grown, audited=0.2)
    world.run()
    world.check_succeeded()
    pairs = [pair for step, pair in world.consumed if step == "crossed"]
    rows, table = (sum(world.parts[name].values()) for name in ("inputs.rows", "inputs.table"))
    assert len(pairs) == rows * table
    assert sum(edge == "gather.parts" for edge, _ in world.consumed) == rows * table
    return world


@few
@given(st.integers(0, 2**32))
def test_each_pair_is_one_task_and_bytes_cross_once(seed: int) -> None:
    world = crossed(seed)
    world.check_crossed_once()
    world.finish()


@few
@given(st.integers(0, 2**32))
def test_each_pair_is_one_task_whatever_goes_wrong(seed: int) -> None:
    crossed(seed, Faults.everything())


def test_a_unit_is_held_until_the_last_of_its_pairs_is_done() -> None:
    rows, table = source("rows", ["edge1"]), source("table", ["edge1"])
    pairs = Use("pairs", ["edge1"], {"a": ("inputs.table.out", CROSS), "b": ("inputs.rows.out", EACH)})
    desk = Desk([rows, table, pairs, output(pairs)], {"inputs.rows": {"edge1": 1}, "inputs.table": {"edge1": 2}})
    desk.read("inputs.rows")
    assert desk.read("inputs.table", 0).starts == [], "there is more to meet"
    first, second = desk.read("inputs.table", 1).starts
    assert unit_ids(first, "b") == unit_ids(second, "b")
    assert unit_ids(first, "a") != unit_ids(second, "a")
    assert not first.inputs[0].many
    assert desk.done(first).freed() == set()
    said = desk.done(second)
    assert said.freed() == {*unit_ids(first, "a"), *unit_ids(second, "a"), *unit_ids(first, "b")}
    assert said.ended is not None


def test_what_meets_nothing_is_consumed_all_the_same() -> None:
    rows, table = source("rows", ["edge1"]), source("table", ["edge1"])
    pairs = Use("pairs", ["edge1"], {"a": ("inputs.table.out", CROSS), "b": ("inputs.rows.out", EACH)})
    desk = Desk([rows, table, pairs, output(pairs)], {"inputs.rows": {"edge1": 1}, "inputs.table": {}})
    said = desk.read("inputs.rows")
    assert said.starts == []
    assert said.ended is not None
