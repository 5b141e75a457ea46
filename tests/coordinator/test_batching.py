"""A task takes as many units as are wanted, or what is there after a while, and nobody waits for what can't come."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.clusters.records import Spilled
from tests.coordinator.desk import Desk, Said, unit_ids
from tests.coordinator.workflows import EACH, Use, output, source
from tests.routing.test_routing import news
from wire.digests import task_id


def batched(parts: int, **batch: float) -> Desk:
    """So many parts of data, each a unit of 1,000 bytes, for a step that takes them in batches."""
    work = Use("work", ["edge1"], {"rows": ("inputs.rows.out", EACH)})
    work.batch = model_pb2.Batch(**batch)  # type: ignore[arg-type]
    return Desk([source("rows", ["edge1"]), work, output(work)], {"inputs.rows": {"edge1": parts}}, cpus=8)


def sizes(said: Said) -> list[int]:
    return [len(unit_ids(task, "rows")) for task in said.starts]


def test_a_batch_is_a_task_as_soon_as_it_is_full() -> None:
    desk = batched(5, count=2, wait=60)
    assert [sizes(desk.read("inputs.rows", part)) for part in range(4)] == [[], [2], [], [2]]


def test_a_task_is_named_by_its_units_in_the_order_of_their_ids() -> None:
    desk = batched(3, count=2, wait=60)
    units = sorted(desk.part("inputs.rows", part).outputs[0].unit.id for part in (2, 1))
    desk.read("inputs.rows", 2)
    (task,) = desk.read("inputs.rows", 1).starts
    assert unit_ids(task, "rows") == units
    assert task.inputs[0].many
    assert task.key.task == task_id("default", "run-1", "work", [("rows", units)])


def test_the_last_batch_is_what_is_left() -> None:
    desk = batched(3, count=2, wait=60)
    desk.read("inputs.rows", 0)
    desk.read("inputs.rows", 1)
    assert sizes(desk.read("inputs.rows", 2)) == [1], "the source has no more"


def test_a_batch_has_at_most_so_many_bytes_but_one_unit_at_least() -> None:
    desk = batched(4, size=2500, wait=60)
    assert [sizes(desk.read("inputs.rows", part)) for part in range(4)] == [[], [], [2], [2]]
    desk = batched(3, size=1, wait=60)
    assert [sizes(desk.read("inputs.rows", part)) for part in range(2)] == [[1], [1]]


def test_what_is_there_after_a_while_is_a_batch() -> None:
    desk = batched(9, count=8, wait=5)
    desk.read("inputs.rows", 0)
    assert sizes(desk.at(14.9)) == []
    desk.read("inputs.rows", 1)
    assert sizes(desk.at(15.0)) == [2]
    desk.now = 20.0
    desk.read("inputs.rows", 2)
    assert sizes(desk.at(24.9)) == [], "the next one waits as long"
    assert sizes(desk.at(25.0)) == [1]


def test_a_restart_changes_nothing_of_what_was_batched() -> None:
    desk = batched(5, count=2, wait=60)
    desk.read("inputs.rows", 0)
    (task,) = desk.read("inputs.rows", 1).starts
    desk.read("inputs.rows", 2)
    desk.restart()
    units = [desk.part("inputs.rows", part).outputs[0].unit.id for part in range(3)]
    assert desk.join(running=[task], units=units).starts == []
    assert sizes(desk.read("inputs.rows", 3)) == [2]


def test_all_units_of_a_batch_go_to_another_cluster_together() -> None:
    work = Use("work", ["edge1", "edge2"], {"rows": ("inputs.rows.out", EACH)}, counter="edge2")
    work.batch = model_pb2.Batch(count=2, wait=60)
    steps = [source("rows", ["edge1"]), work, output(work)]
    desk = Desk(steps, {"inputs.rows": {"edge1": 4}}, clusters=["edge1", "edge2"], cpus=1)
    desk.do(news("edge2", wanted=50))
    (first,) = desk.do(*(desk.part("inputs.rows", part) for part in range(4))).starts
    said = desk.do(news("edge2", wanted=0, number=2))
    assert len(said.recorded(Spilled)) == 1
    offered = {message.offer.unit.id for _, message in said.to_peers("offer")}
    assert len(offered) == 2
    assert not offered & set(unit_ids(first, "rows"))
