"""What is broadcast reaches each cluster that has tasks once, and every task reads all of it, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.fragment import BROADCAST as BROADCAST_EDGE
from cluster_agent.coordinator.stored import Record
from cluster_agent.coordinator.tasks.grouping import made
from cluster_agent.coordinator.tasks.records import Committed
from tests.coordinator.federation import Agent, Faults
from tests.coordinator.workflows import BROADCAST, EACH, GATHER, Use, output, some_of, source
from tests.properties.graphs import Parts
from tests.properties.worlds import World
from tests.settings import few


def grown(random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
    """Data here and there, of which some is read by every task, itself or what a step makes of it."""
    some = partial(some_of, random, clusters)
    rows, table = source("rows", some()), source("table", some())
    steps = [rows, table]
    side = table
    if random.random() < 0.6:
        pairing = random.choice((EACH, EACH, GATHER))
        executors = some()[:1] if pairing == GATHER else some()
        origin = random.choice((rows, table))
        side = Use("prepare", executors, {"in": (f"{origin.name}.out", pairing)}, counter=random.choice(list(clusters)))
        steps.append(side)
    inputs = {"rows": ("inputs.rows.out", EACH), "all": (f"{side.name}.out", BROADCAST)}
    if random.random() < 0.3:
        inputs["more"] = ("inputs.rows.out", BROADCAST)
    reader = Use("reader", some(), inputs, counter=random.choice(list(clusters)))
    steps += [reader, output(reader)]
    if random.random() < 0.3:
        again = Use("again", some(), {"rows": ("reader.out", EACH), "all": (f"{side.name}.out", BROADCAST)})
        steps += [again, output(again, "again")]
    parts = {step.name: {at: random.randint(0, 3) for at in step.executors} for step in (rows, table)}
    return steps, parts


class Reading(World):
    """Notes what each task of the reading steps was formed of."""

    def __init__(self, seed: int, faults: Faults | None = None, *, crashes: frozenset[int] = frozenset()) -> None:
        self.sides: dict[tuple[str, str], set[tuple[bytes, ...]]] = {}
        self.read_at: dict[tuple[str, str], bool] = {}
        super().__init__(seed, faults, grow=grown, crashes=crashes, audited=0.2)

    def observe(self, agent: Agent, record: Record) -> None:
        super().observe(agent, record)
        if isinstance(record, Committed):
            live = agent.core._book.lives[record.run]
            task = live.run.tasks[record.task]
            step = live.graph.steps[task.step]
            for edge, units in zip(step.inputs, live.inputs(task), strict=True):
                if edge.pairing == BROADCAST_EDGE:
                    self.sides.setdefault((step.name, edge.port), set()).add(tuple(units))

    def check_read(self) -> None:
        """All tasks of a step, on whichever cluster, have read the same, and that is all that was made."""
        for agent in self.agents.values():
            live = agent.core._book.lives[next(iter(agent.core.runs()))]
            for (step, port), read in self.sides.items():
                edge = live.graph.edge_by_id[f"{step}.{port}"]
                (units,) = read
                assert list(units) == sorted(set(units))
                if all(live.run.steps[producer.index].closed for producer in edge.producers):
                    assert len(units) == made(live, edge).count


def reading(seed: int, faults: Faults | None = None, *, crashes: frozenset[int] = frozenset()) -> Reading:
    world = Reading(seed, faults, crashes=crashes)
    world.run()
    world.check_succeeded()
    world.check_read()
    return world


@few
@given(st.integers(0, 2**32))
def test_each_task_reads_all_that_is_broadcast_and_its_bytes_cross_once(seed: int) -> None:
    world = reading(seed)
    world.check_crossed_once()
    world.finish()


@few
@given(st.integers(0, 2**32))
def test_each_task_reads_all_that_is_broadcast_while_everything_goes_wrong(seed: int) -> None:
    reading(seed, Faults.everything())


@few
@given(st.integers(0, 2**32), st.data())
def test_a_crash_at_any_event_changes_nothing_of_what_is_broadcast(seed: int, data: st.DataObject) -> None:
    world = reading(seed, crashes=frozenset([0]))
    reading(seed, crashes=frozenset([data.draw(st.integers(1, max(1, world.chances)))]))
