"""Units of one lineage make one task, whichever ways they came and wherever they were made; nobody is left over."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.stored import Record
from cluster_agent.coordinator.tasks.records import Committed, PartOpened, Produced
from tests.coordinator.federation import Agent, Faults
from tests.coordinator.workflows import EACH, ZIP, Use, output, some_of, source, split
from tests.properties.graphs import Parts
from tests.properties.worlds import World
from tests.settings import few


def grown(random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
    """Pieces of data that go two ways, of which one is longer, and two datasets that are zipped part by part."""
    some = partial(some_of, random, clusters)
    data, other = source("data", some()), source("other", some())
    pieces = split(data)
    ways: list[Use] = []
    for name, of in (("left", pieces.name), ("right", pieces.name), ("longer", "right")):
        ways.append(Use(name, some(), {"rows": (f"{of}.out", EACH)}, counter=random.choice(list(clusters))))
    zipped = Use("zipped", some(), {"a": ("left.out", ZIP), "b": ("longer.out", ZIP)})
    after = Use("after", some(), {"rows": ("zipped.out", EACH)})
    again = Use("again", some(), {"a": ("after.out", ZIP), "b": ("right.out", ZIP)})
    parts = Use("parts", some(), {"a": ("inputs.data.out", ZIP), "b": ("inputs.other.out", ZIP)})
    count = random.randint(0, 3)
    lie = {each.name: dict.fromkeys(each.executors, 0) for each in (data, other)}
    for places in lie.values():
        for _ in range(count):
            places[random.choice(list(places))] += 1
    steps = [data, other, pieces, *ways, zipped, after, again, output(again), parts, output(parts, "parts")]
    return steps, lie


class Zipping(World):
    """Notes of each unit which piece or part it came of, and what met whom."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.beginning: dict[bytes, bytes] = {}  # unit -> the piece, or the part's number, that it came of
        self.met: dict[tuple[str, bytes], list[bytes]] = {}
        super().__init__(seed, faults, grow=grown, audited=0.1)

    def observe(self, agent: Agent, record: Record) -> None:
        super().observe(agent, record)
        if isinstance(record, PartOpened):
            part = agent.core._book.lives[record.run].run.parts[record.part]
            self.beginning.update({made.unit.id: b"%d" % part.index for made in record.outputs})
        if isinstance(record, Committed | Produced):
            live = agent.core._book.lives[record.run]
            task = live.run.tasks[record.task]
            step = live.graph.steps[task.step]
            units = [unit for units in task.inputs for unit in units]
            for made in record.outputs:
                piece = made.unit.id if step.name.endswith(".split") else self.beginning[units[0]]
                self.beginning[made.unit.id] = piece
            if step.meets and isinstance(record, Committed):
                self.met[step.name, task.id] = units

    def check_met(self) -> None:
        met: dict[str, list[bytes]] = {"zipped": [], "again": [], "parts": []}
        for (step, _), units in self.met.items():
            assert len(units) == 2
            left, right = (self.beginning[unit] for unit in units)
            assert left == right, "units of different beginnings met"
            met[step].append(left)
        pieces = {piece for piece in self.beginning.values() if len(piece) == 16}
        assert sorted(met["zipped"]) == sorted(met["again"]) == sorted(pieces)
        assert len(met["parts"]) == len(set(met["parts"])) == sum(self.parts["inputs.data"].values())


def zipped(seed: int, faults: Faults | None = None) -> Zipping:
    world = Zipping(seed, faults)
    world.run()
    world.check_succeeded()
    world.check_met()
    return world


@few
@given(st.integers(0, 2**32))
def test_units_of_one_beginning_meet_and_their_bytes_cross_once(seed: int) -> None:
    world = zipped(seed)
    world.check_crossed_once()
    world.finish()


@few
@given(st.integers(0, 2**32))
def test_units_of_one_beginning_meet_whatever_goes_wrong(seed: int) -> None:
    zipped(seed, Faults.everything())


def test_a_unit_without_a_partner_ends_the_run_and_is_named() -> None:
    world = Zipping(5)
    for agent in world.agents.values():
        agent.hub.clear()
    world.introduce()
    lie = {name: dict.fromkeys(places, 0) for name, places in world.parts.items()}
    lie["inputs.data"][next(iter(lie["inputs.data"]))] = 1
    world.submit(list(world.uses.values()), lie)
    world.run()
    world.check_failed()
    assert "the inputs a and b of parts are zipped, but of what out-0.csv (0) came of" in world.failures[0].message
    assert "1 on a, 0 on b: each takes one" in world.failures[0].message
