"""What is broadcast is brought to a cluster that reads it, when it does, and given up when its step has closed."""

from __future__ import annotations

from bdw_fed.v1 import peer_pb2
from tests.coordinator.desk import Desk, Said, sum_of, unit_ids
from tests.coordinator.workflows import BROADCAST, EACH, Use, output, source

ROWS = source("rows", ["edge1", "edge2"])
TABLE = source("table", ["edge2"])


def read_on(*executors: str) -> Desk:
    """Rows on two clusters, each of which is read beside a table that lies on the other one."""
    inputs = {"rows": ("inputs.rows.out", EACH), "all": ("inputs.table.out", BROADCAST)}
    reader = Use("reader", executors, inputs, counter="edge2")
    parts = {"inputs.rows": {"edge1": 1, "edge2": 1}, "inputs.table": {"edge2": 1}}
    return Desk([ROWS, TABLE, reader, output(reader)], parts, clusters=["edge1", "edge2"])


def offered(desk: Desk, edge: str, step: str) -> tuple[bytes, Said]:
    """The other cluster offers and grants the only unit of one of its sources."""
    unit = desk.part(step).outputs[0].unit
    offer = peer_pb2.Offer(edge=edge)
    offer.unit.id, offer.unit.digest, offer.unit.size = unit.id, unit.digest, unit.size
    offer.location.cluster, offer.location.node, offer.location.address = "edge2", "n9", "n9:1"
    said = desk.peer("edge2", offer=offer)
    assert [word.accept.unit for _, word in said.to_peers("accept")] == [unit.id]
    return unit.id, desk.peer("edge2", grant=peer_pb2.Grant(edge=edge, unit=unit.id))


def closed(step: str, **made: bytes) -> peer_pb2.StepClosed:
    word = peer_pb2.StepClosed(step=step)
    for cluster, unit in made.items():
        word.produced["out"].by_cluster[cluster].CopyFrom(sum_of(unit))
    return word


def test_a_copy_is_brought_when_there_is_a_task_that_reads_it_and_tasks_wait_for_all_copies() -> None:
    desk = read_on("edge1", "edge2")
    table, said = offered(desk, "reader.all", "inputs.table")
    assert not said.to_nodes("fetch"), "nobody reads it here"
    said = desk.read("inputs.rows")
    assert [fetch.unit.id for _, fetch in said.to_nodes("fetch")] == [table]  # type: ignore[attr-defined]
    assert not desk.fetched(table).starts, "there may be more of it"
    (task,) = desk.peer("edge2", closed=closed("inputs.table", edge2=table)).starts
    assert unit_ids(task, "all") == [table]
    assert not desk.done(task).freed() & {table}, "other tasks may come"


def test_a_cluster_without_tasks_gives_up_the_copies_unread_when_the_step_has_closed() -> None:
    desk = read_on("edge1", "edge2")
    table, _ = offered(desk, "reader.all", "inputs.table")
    desk.peer("edge2", closed=closed("inputs.table", edge2=table))
    said = desk.peer("edge2", closed=peer_pb2.StepClosed(step="reader"))
    assert [word.released.unit for _, word in said.to_peers("released")] == [table]


def test_a_copy_that_is_granted_after_the_step_has_closed_is_given_up_and_waited_for() -> None:
    desk = read_on("edge2", "edge1")
    row = desk.part("inputs.rows").outputs[0].unit.id
    desk.read("inputs.rows")
    desk.peer("edge2", accept=peer_pb2.Accept(edge="reader.rows", unit=row))
    desk.peer("edge2", granted=peer_pb2.Granted(edge="reader.rows", unit=row))
    table = desk.part("inputs.table").outputs[0].unit.id
    for word in (closed("inputs.table", edge2=table), closed("inputs.rows"), closed("reader")):
        assert desk.peer("edge2", closed=word).ended is None
    said = desk.peer("edge2", released=peer_pb2.Released(edge="reader.rows", unit=row))
    said = desk.peer("edge2", closed=closed("outputs.report"))
    assert said.ended is None, "the other cluster waits to hear that the copy is not needed"
    _, said = offered(desk, "reader.all", "inputs.table")
    assert [word.released.unit for _, word in said.to_peers("released")] == [table]
    assert said.ended is not None


def test_what_is_made_here_is_kept_until_each_other_cluster_has_released_its_copy() -> None:
    table = source("table", ["edge1"])
    inputs = {"rows": ("inputs.rows.out", EACH), "all": ("inputs.table.out", BROADCAST)}
    reader = Use("reader", ["edge2", "edge3"], inputs, counter="edge2")
    parts = {"inputs.table": {"edge1": 1}, "inputs.rows": {"edge2": 1}}
    clusters = ["edge1", "edge2", "edge3"]
    desk = Desk([table, source("rows", ["edge2"]), reader, output(reader)], parts, clusters=clusters)
    said = desk.read("inputs.table")
    unit = desk.part("inputs.table").outputs[0].unit.id
    assert sorted(cluster for cluster, _ in said.to_peers("offer")) == ["edge2", "edge3"]
    for cluster in ("edge2", "edge3"):
        said = desk.peer(cluster, accept=peer_pb2.Accept(edge="reader.all", unit=unit))
        assert [(to, word.grant.unit) for to, word in said.to_peers("grant")] == [(cluster, unit)]
        desk.peer(cluster, granted=peer_pb2.Granted(edge="reader.all", unit=unit))
    assert not desk.peer("edge3", released=peer_pb2.Released(edge="reader.all", unit=unit)).freed()
    assert desk.peer("edge2", released=peer_pb2.Released(edge="reader.all", unit=unit)).freed() == {unit}


def test_a_copy_that_is_given_up_unread_takes_nothing_from_another_use_of_its_bytes() -> None:
    table = source("table", ["edge1"])
    inputs = {"rows": ("inputs.rows.out", EACH), "all": ("inputs.table.out", BROADCAST)}
    reader = Use("reader", ["edge2"], inputs, counter="edge2")
    other = Use("other", ["edge2"], {"table": ("inputs.table.out", EACH)}, counter="edge2")
    steps = [table, source("rows", ["edge2"]), reader, other, output(reader), output(other, "other")]
    desk = Desk(steps, {"inputs.table": {"edge1": 1}, "inputs.rows": {}}, clusters=["edge1", "edge2"])
    desk.read("inputs.table")
    unit = desk.part("inputs.table").outputs[0].unit.id
    for edge in ("reader.all", "other.table"):
        desk.peer("edge2", accept=peer_pb2.Accept(edge=edge, unit=unit))
        desk.peer("edge2", granted=peer_pb2.Granted(edge=edge, unit=unit))
    wanted = peer_pb2.PushRequest(to=peer_pb2.UnitLocation(cluster="edge2", node="n9", address="n9:1"))
    wanted.unit.id = unit
    assert len(desk.peer("edge2", push=wanted).to_nodes("push")) == 1
    desk.peer("edge2", released=peer_pb2.Released(edge="reader.all", unit=unit))
    desk.lose()
    assert len(desk.join(units=[unit]).to_nodes("push")) == 1, "the other step waits for it"
