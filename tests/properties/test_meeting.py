"""Units with one key make one task wherever they were made, and what is gathered on each cluster makes one there.

A tree of merges does so twice: it puts together all units, those of each cluster in the order of their lineage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.fragment import MERGE
from cluster_agent.coordinator.stored import Record
from cluster_agent.coordinator.tasks.records import Committed, PartOpened, Produced
from tests.coordinator.federation import Agent, Faults
from tests.coordinator.workflows import (
    BROADCAST,
    EACH,
    GATHER,
    GATHER_EACH,
    GROUP,
    Use,
    merge,
    merges_of_clusters,
    output,
    some_of,
    source,
    split,
)
from tests.properties.graphs import Parts
from tests.properties.worlds import World
from tests.settings import few

WHOLE = "made.out.local.merge.out.merge"


def grown(random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
    """Pieces of data of some clusters, worked on anywhere, that meet by their names and where they were made."""
    some = partial(some_of, random, clusters)
    data = source("data", some())
    pieces = split(data)
    made = Use("made", some(), {"rows": (f"{pieces.name}.out", EACH)}, counter=random.choice(list(clusters)))
    grouped = Use("grouped", some(), {"a": (f"{pieces.name}.out", GROUP), "b": ("inputs.data.out", GROUP)})
    apart = Use("apart", some(), {"parts": ("made.out", GATHER_EACH)}, counter=random.choice(list(clusters)))
    if random.random() < 0.5:
        apart.inputs = {**apart.inputs, "all": ("inputs.data.out", BROADCAST)}
    merged = Use("merged", some()[:1], {"parts": ("apart.out", GATHER)})
    local = merges_of_clusters(made, some())
    whole = merge(local, some()[0])
    steps = [data, pieces, made, grouped, output(grouped, "grouped"), apart, merged, output(merged, "merged")]
    steps += [local, whole, output(whole, "whole")]
    return steps, {data.name: {cluster: random.randint(0, 3) for cluster in data.executors}}


class Meeting(World):
    """Notes who has done which of the tasks that units meet in, and which units were made where."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.tasks: dict[str, dict[bytes, tuple[str, list[bytes]]]] = {}
        self.orders: dict[bytes, bytes] = {}  # unit -> its place, as whoever merges it knows it
        self.made_by: dict[bytes, list[bytes]] = {}  # task -> its units
        self.names: dict[bytes, str] = {}
        self.made_on: dict[bytes, str] = {}
        super().__init__(seed, faults, grow=grown, audited=0.1)

    def observe(self, agent: Agent, record: Record) -> None:
        super().observe(agent, record)
        if isinstance(record, Committed | Produced | PartOpened):
            for made in record.outputs:
                self.names[made.unit.id] = made.unit.name
                self.made_on.setdefault(made.unit.id, agent.cluster)
            if isinstance(record, Committed):
                live = agent.core._book.lives[record.run]
                task = live.run.tasks[record.task]
                step = live.graph.steps[task.step]
                if step.kind == MERGE:
                    self.orders.update({unit: live.run.units[unit].order for units in task.inputs for unit in units})
                units = [unit for units in task.inputs for unit in units]
                self.tasks.setdefault(step.name, {})[task.id] = (agent.cluster, units)
                self.made_by[task.id] = [made.unit.id for made in record.outputs]

    def check_merged(self) -> None:
        local, [(_, [*files])] = self.tasks.get("made.out.local.merge", {}), self.tasks[WHOLE].values()
        made = [unit for task in self.tasks.get("made", {}) for unit in self.made_by[task]]
        merged = [unit for _, units in local.values() for unit in units]
        assert Counter(merged) == Counter(made), "each unit is in one file, once"
        assert Counter(files) == Counter(unit for task in local for unit in self.made_by[task])
        clusters = [cluster for cluster, _ in local.values()]
        assert len(clusters) == len(set(clusters)), "a cluster has made two files"
        for units in (files, *(units for _, units in local.values())):
            orders = [self.orders[unit] for unit in units]
            assert all(orders), "a unit does not know its place"
            assert orders == sorted(orders), "units are not in their order"

    def check_met(self) -> None:
        keys = Counter(
            key
            for _, units in self.tasks.get("grouped", {}).values()
            for key in {self.names[unit].rpartition("-")[2] for unit in units}
        )
        assert all(count == 1 for count in keys.values()), "a key has two tasks"
        assert len(keys) == len(self.tasks.get("grouped", {})), "a task has two keys"
        executors = self.uses["apart"].executors
        apart = self.tasks.get("apart", {})
        where = [cluster for cluster, _ in apart.values()]
        assert len(where) == len(set(where)), "a cluster has two tasks"
        for cluster, units in apart.values():
            assert all(self.made_on[unit] == cluster or self.made_on[unit] not in executors for unit in units)


def met(seed: int, faults: Faults | None = None) -> Meeting:
    world = Meeting(seed, faults)
    world.run()
    world.check_succeeded()
    world.check_met()
    world.check_merged()
    return world


@few
@given(st.integers(0, 2**32))
def test_units_meet_where_they_belong_and_their_bytes_cross_once(seed: int) -> None:
    world = met(seed)
    world.check_crossed_once()
    world.finish()


@few
@given(st.integers(0, 2**32))
def test_units_meet_where_they_belong_while_everything_goes_wrong(seed: int) -> None:
    met(seed, Faults.everything())


def test_a_unit_without_a_key_ends_the_run_and_is_named() -> None:
    world = Meeting(3)
    world.uses["grouped"].group_by = "part-{key}.txt"
    for agent in world.agents.values():
        agent.hub.clear()
    world.introduce()
    world.submit(list(world.uses.values()), {"inputs.data": dict.fromkeys(world.uses["inputs.data"].executors, 1)})
    world.run()
    world.check_failed()
    assert "has no key by group: {by: 'part-{key}.txt'}" in world.failures[0].message
    assert world.failures[0].kind == "value"
