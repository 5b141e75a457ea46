"""Results of before a run began again: which of them still hold, and what becomes of the bytes of those that don't."""

from __future__ import annotations

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.units.infos import unit_proto
from simulator.audit import audit_stored
from tests.coordinator.desk import RUN, Desk, outputs
from tests.coordinator.federation import made
from tests.coordinator.workflows import EACH, Use, output, source
from wire.digests import source_task_id

HERE, THERE, LOST = "edge1", "cloud", "edge2"
DATA = source("data", [HERE])


def steps(*clusters: str) -> list[Use]:
    clean = Use("clean", clusters, {"rows": (f"{DATA.name}.out", EACH)})
    return [DATA, clean, output(clean)]


def test_our_bytes_of_a_result_that_does_not_hold_go_when_a_peer_knows_the_one_that_does() -> None:
    """Its input was changed before the run began again, and whoever is asked has done the task on the new one."""
    desk = Desk(steps(HERE, THERE, LOST), {DATA.name: {HERE: 1}}, clusters=[HERE, THERE, LOST])
    (task,) = desk.read(DATA.name).starts
    desk.done(task)
    desk.steps, desk.clusters = steps(HERE, THERE), [HERE, THERE]
    desk.assign(epoch=2)
    changed = made(source_task_id("default", RUN.run, DATA.name, 0), "out", 0, 1000, b"changed")
    said = desk.do(messages.SourceRead("n1", RUN, DATA.name, 0, (changed,), asked=True))
    assert not said.starts
    ((_, asked),) = said.to_peers("sought")
    (ours,) = outputs(task)
    found = peer_pb2.Found(task=asked.sought.task, known=True)
    found.outputs.add(port=ours.port, unit=unit_proto(ours.unit))
    said = desk.peer(THERE, epoch=2, revision=2, found=found)
    assert said.freed() == {ours.unit.id}
    audit_stored(desk.core._book.lives)
