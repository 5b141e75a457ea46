"""How many parts a split per slot makes is decided once; and what is merged is in the order of its lineage."""

from __future__ import annotations

from random import Random

import pytest

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.messages import NodeSaid
from cluster_agent.coordinator.nodes.records import Assigned
from cluster_agent.orders.messages import Failure, Output
from tests.coordinator.desk import RUN, Desk
from tests.coordinator.federation import Faults, Federation
from tests.coordinator.workflows import EACH, GATHER, Use, merge, output, source, split
from tests.fixtures import words
from wire.digests import source_task_id, unit_id

FLIGHTS = source("flights", ["edge1"])


def per_slot(**consumer: float) -> list[Use]:
    cut = split(FLIGHTS)
    cut.per_slot = True
    clean = Use("clean", ["edge1"], {"rows": (f"{cut.name}.out", EACH)}, **consumer)  # type: ignore[arg-type]
    return [FLIGHTS, cut, clean, output(clean)]


@pytest.mark.parametrize(
    ("nodes", "consumer", "expected"),
    [
        (["n1"], {}, 2),
        (["n1", "n2", "n3"], {}, 6),
        (["n1", "n2", "n3"], {"cpus": 0.5}, 12),
        (["n1", "n2", "n3"], {"pool_max": 4}, 4),
    ],
)
def test_there_are_as_many_parts_as_the_reader_has_slots(
    nodes: list[str], consumer: dict[str, float], expected: int
) -> None:
    desk = Desk(per_slot(**consumer), {"inputs.flights": {"edge1": 1}}, nodes=nodes)
    (task,) = desk.read("inputs.flights").starts
    assert task.order.parts == expected


def test_a_later_attempt_makes_the_same_parts_whatever_slots_there_are_then() -> None:
    desk = Desk(per_slot(), {"inputs.flights": {"edge1": 1}})
    said = desk.read("inputs.flights")
    (task,) = said.starts
    assert [record.parts for record in said.recorded(Assigned)] == [2]  # type: ignore[attr-defined]
    desk.join("n2")
    desk.do(NodeSaid("n1", words.failed(RUN, task.key.task, 1, Failure("lost", "gone"), 0.0)))
    again = desk.at(desk.now + 10).starts
    assert [(start.key.task, start.key.attempt, start.order.parts) for start in again] == [(task.key.task, 2, 2)]
    desk.restart()
    assert desk.core._book.lives[RUN].run.tasks[task.key.task].parts == 2


def test_once_the_run_has_begun_again_the_same_split_makes_the_same_parts() -> None:
    desk = Desk(per_slot(), {"inputs.flights": {"edge1": 1}})
    (task,) = desk.read("inputs.flights").starts
    desk.done(task, count=2)
    desk.join("n2")
    live = desk.core._book.lives[RUN]
    assert live.run.tasks[task.key.task].parts == 2
    desk.assign(epoch=2)
    desk.read("inputs.flights")
    live = desk.core._book.lives[RUN]
    assert live.run.tasks[task.key.task].parts == 2


def test_what_can_never_be_read_is_not_tried_again() -> None:
    desk = Desk(per_slot(), {"inputs.flights": {"edge1": 1}})
    (task,) = desk.read("inputs.flights").starts
    failure = Failure("content", "flights.csv: at byte 7: a field is quoted from here on and never closed")
    said = desk.do(NodeSaid("n1", words.failed(RUN, task.key.task, 1, failure, 0.0)))
    assert said.ended is not None
    assert said.ended.failures[-1].message == failure.message


class Seeing(Federation):
    """A federation that notes which units each task read and made, and in which order they were merged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.came_from: dict[bytes, tuple[bytes, int]] = {}  # unit -> the first that its task read, and its index
        self.merged: list[list[bytes]] = []

    def outputs_of(self, task: words.Task) -> tuple[Output, ...]:
        outputs = super().outputs_of(task)
        read = {port.port: [unit.id for unit in port.units] for port in task.inputs}
        if task.start.execution.WhichOneof("kind") == "merge":
            self.merged.append(read["in"])
        elif task.step == "report":
            assert [port.many for port in task.inputs] == [False, True], "what is merged is one file"
        else:
            first = min((unit.id for unit in task.inputs[0].units), key=self.place)
            self.came_from.update({each.unit.id: (first, each.index) for each in outputs})
        return outputs

    def place(self, unit: bytes) -> tuple[int, ...]:
        """The part of the source that it stems from, and the index of each output on the way."""
        if unit in self.came_from:
            before, index = self.came_from[unit]
            return (*self.place(before), index)
        return (ROOTS[unit],)


ROOTS = {unit_id(source_task_id("default", "run-1", "inputs.flights", index), "out", 0): index for index in range(6)}


@pytest.mark.parametrize("seed", range(12))
def test_units_of_all_clusters_are_merged_in_the_order_of_their_lineage(seed: int) -> None:
    random = Random(seed)
    clusters = {"edge1": {"n1": 2.0}, "edge2": {"n1": 2.0}, "cloud": {"n1": 4.0}}
    federation = Seeing(random, clusters, Faults(crash=0.01 if seed % 3 == 0 else 0.0, budget=3))
    federation.units_per_split = 15 if seed == 0 else 5
    names = list(clusters)
    flights = source("flights", ["edge1", "edge2"])
    first = split(flights)
    first.per_slot = seed % 2 == 1
    clean = Use("clean", names, {"rows": (f"{first.name}.out", EACH)}, ("out", "rest"))
    if seed >= 9:
        clean.batch = model_pb2.Batch(count=3, wait=0.5)
    again = Use("clean.out.split", names, {"in": ("clean.out", EACH)}, kind="split")
    whole, rest = merge(again, random.choice(names)), merge(clean, random.choice(names), "rest")
    inputs = {"all": (f"{whole.name}.out", GATHER), "rest": ("clean.rest", GATHER)}
    report = Use("report", [random.choice(names)], inputs)
    steps = [flights, first, clean, again, whole, rest, report, output(report), output(rest, "rest")]
    federation.introduce()
    federation.submit(steps, {"inputs.flights": {"edge1": 3, "edge2": random.randint(0, 3)}})
    federation.run()
    federation.check_succeeded()
    assert len(federation.merged) >= 2
    for units in federation.merged:
        places = [federation.place(unit) for unit in units]
        assert places == sorted(places)
