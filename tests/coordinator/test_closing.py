"""When steps close and fragments end."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, node_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.tasks.records import Closed, Committed
from tests.coordinator.desk import RUN, Desk, outputs, sum_of
from tests.coordinator.workflows import EACH, Use, output, source

HERE, THERE = "edge1", "edge2"
SUCCEEDED = model_pb2.FRAGMENT_STATE_SUCCEEDED


def both(*, counter: str, parts: dict[str, int]) -> Desk:
    flights = source("flights", [HERE, THERE])
    flights.counter = counter
    clean = Use("clean", [HERE, THERE], {"rows": ("inputs.flights.out", EACH)}, pinned=True, counter=counter)
    result = output(clean)
    result.counter = counter
    return Desk([flights, clean, result], {"inputs.flights": parts}, clusters=[HERE, THERE])


def closed(step: str, **produced: bytes) -> peer_pb2.StepClosed:
    message = peer_pb2.StepClosed(step=step)
    for cluster, unit in produced.items():
        message.produced["out"].by_cluster[cluster].CopyFrom(sum_of(unit))
    return message


def test_a_source_without_units_closes_and_so_does_all_that_follows() -> None:
    flights = source("flights", [HERE])
    clean = Use("clean", [HERE], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([flights, clean, output(clean)], {"inputs.flights": {}})
    assert len(desk.first.recorded(Closed)) == 3
    assert desk.first.ended is not None
    assert desk.first.ended.state == SUCCEEDED


def test_an_executor_reports_only_when_it_could_matter() -> None:
    desk = both(counter=THERE, parts={HERE: 2})
    unit, other = (desk.part("inputs.flights", index).outputs[0].unit.id for index in range(2))
    said = desk.read("inputs.flights", 0)
    (first,) = said.starts
    assert said.to_peers("report") == [], "the other part is not opened"
    said = desk.read("inputs.flights", 1)
    ((cluster, message),) = said.to_peers("report")
    assert cluster == THERE
    assert message.report.source_done
    assert message.report.produced["out"] == sum_of(unit, other)
    (second,) = said.starts
    assert desk.done(first).to_peers("report") == [], "another unit waits here"
    assert desk.done(second).to_peers("report") == [], "the source is not known to have closed"
    done = peer_pb2.StepClosed(step="inputs.flights")
    done.produced["out"].by_cluster[HERE].CopyFrom(sum_of(unit, other))
    ((_, message),) = desk.peer(THERE, closed=done).to_peers("report")
    assert message.report.step == "clean"
    assert message.report.consumed["rows"] == sum_of(unit, other)
    assert message.report.produced["out"].count == 2


def test_the_counter_closes_a_step_when_what_came_in_equals_what_was_consumed() -> None:
    desk = both(counter=HERE, parts={HERE: 1, THERE: 1})
    mine, theirs = (desk.part("inputs.flights", index).outputs[0].unit.id for index in range(2))
    (task,) = desk.read("inputs.flights", 0).starts
    desk.done(task)
    report = peer_pb2.StepReport(step="inputs.flights", source_done=True)
    report.produced["out"].CopyFrom(sum_of(theirs))
    said = desk.peer(THERE, report=report)
    ((_, message),) = said.to_peers("closed")
    by_cluster = message.closed.produced["out"].by_cluster
    assert by_cluster[HERE] == sum_of(mine)
    assert by_cluster[THERE] == sum_of(theirs)
    report = peer_pb2.StepReport(step="clean", tasks=1)
    report.consumed["rows"].CopyFrom(sum_of(theirs))
    report.produced["out"].CopyFrom(sum_of(b"x" * 16))
    said = desk.peer(THERE, report=report)
    assert [message.closed.step for _, message in said.to_peers("closed")] == ["clean"]
    report = peer_pb2.StepReport(step="outputs.report")
    report.consumed["in"].CopyFrom(sum_of(b"y" * 16))
    assert desk.peer(THERE, report=report).ended is None, "the same number of other units is not the same set"
    report.consumed["in"].CopyFrom(sum_of(b"x" * 16))
    said = desk.peer(THERE, report=report)
    assert said.ended is not None
    assert said.ended.state == SUCCEEDED


def test_at_most_one_report_a_step_leaves_in_a_batch() -> None:
    desk = both(counter=THERE, parts={HERE: 2})
    first, second = desk.do(*(desk.part("inputs.flights", index) for index in range(2))).starts
    done = peer_pb2.StepClosed(step="inputs.flights")
    units = [desk.part("inputs.flights", index).outputs[0].unit.id for index in range(2)]
    done.produced["out"].by_cluster[HERE].CopyFrom(sum_of(*units))
    desk.peer(THERE, closed=done)
    said = desk.do(desk.result(first), desk.result(second))
    assert [message.report.step for _, message in said.to_peers("report")] == ["clean"]


def test_closings_may_come_in_any_order() -> None:
    desk = both(counter=THERE, parts={HERE: 1})
    unit = desk.part("inputs.flights").outputs[0].unit.id
    (task,) = desk.read("inputs.flights").starts
    desk.done(task)
    made = outputs(task)[0].unit.id
    last = peer_pb2.StepClosed(step="outputs.report")
    assert desk.peer(THERE, closed=last).ended is None
    assert desk.peer(THERE, closed=closed("clean", **{HERE: made})).ended is None
    said = desk.peer(THERE, closed=closed("inputs.flights", **{HERE: unit}))
    assert said.ended is not None
    assert said.ended.state == SUCCEEDED


def test_a_fragment_that_owes_units_does_not_end() -> None:
    flights = source("flights", [HERE])
    clean = Use("clean", [THERE], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([flights, clean, output(clean)], {"inputs.flights": {HERE: 1}}, clusters=[HERE, THERE])
    ((_, message),) = desk.read("inputs.flights").to_peers("offer")
    about = {"edge": "clean.rows", "unit": message.offer.unit.id}
    desk.peer(THERE, accept=peer_pb2.Accept(**about))
    assert desk.peer(THERE, granted=peer_pb2.Granted(**about)).ended is None
    said = desk.peer(THERE, released=peer_pb2.Released(**about))
    assert said.ended is not None
    assert said.ended.state == SUCCEEDED


def finished() -> tuple[Desk, bytes]:
    flights = source("flights", [HERE])
    clean = Use("clean", [HERE], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([flights, clean, output(clean)], {"inputs.flights": {HERE: 1}})
    (task,) = desk.read("inputs.flights").starts
    desk.done(task)
    return desk, outputs(task)[0].unit.id


def test_a_finished_run_keeps_only_its_results_and_a_forgotten_one_nothing() -> None:
    desk, result = finished()
    ((_, end),) = desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FINISHED)).to_nodes("end_run")
    assert isinstance(end, node_pb2.EndRun)
    assert list(end.keep) == [result]
    assert [kept.unit.id for kept in desk.status().outputs] == [result]
    ((_, end),) = desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FORGOTTEN)).to_nodes("end_run")
    assert isinstance(end, node_pb2.EndRun)
    assert not end.keep
    assert list(desk.core.inventory()) == []


def test_a_node_that_was_away_when_a_run_finished_frees_its_units_when_it_comes_back() -> None:
    desk, result = finished()
    desk.lose()
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FINISHED))
    ((_, end),) = desk.join(units=[result, b"x" * 16]).to_nodes("end_run")
    assert isinstance(end, node_pb2.EndRun)
    assert list(end.keep) == [result]


def test_what_a_peer_says_of_a_forgotten_run_is_dropped() -> None:
    desk, _ = finished()
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FORGOTTEN))
    before = desk.core.snapshot()
    desk.peer(THERE, report=peer_pb2.StepReport(step="clean"))
    assert desk.core.snapshot() == before


def test_a_cancelled_run_stops_its_tasks_and_says_so() -> None:
    flights = source("flights", [HERE])
    clean = Use("clean", [HERE], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([flights, clean, output(clean)], {"inputs.flights": {HERE: 3}})
    (task,) = desk.read("inputs.flights", 0).starts
    said = desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_CANCELLED))
    assert len(said.to_nodes("end_run")) == 1
    assert said.ended is not None
    assert said.ended.state == model_pb2.FRAGMENT_STATE_CANCELLED
    assert desk.progress("clean").running == 0
    late = desk.done(task)
    assert late.recorded(Committed) == []
    assert late.freed() == {made.unit.id for made in outputs(task)}
    assert desk.read("inputs.flights", 1).starts == []


def test_an_end_is_told_once_also_over_a_restart() -> None:
    desk, result = finished()
    assert desk.restart().hub == []
    assert desk.join(units=[result]).hub == []
