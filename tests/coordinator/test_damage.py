"""Content that a node has found damaged is had again while its run goes on, and told of as lost where it can't be."""

from __future__ import annotations

import json

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.cache import caching
from cluster_agent.coordinator.cache.records import CacheDropped
from cluster_agent.coordinator.messages import RunKey, UnitsDamaged
from cluster_agent.coordinator.state import Cached
from cluster_agent.coordinator.units.records import CopiesLost, Fetched, Remade
from cluster_agent.orders.messages import Output, UnitInfo
from tests.coordinator.desk import RUN, Desk, Said, outputs, unit_ids
from tests.coordinator.workflows import EACH, Use, output, source
from wire.digests import content_name
from wire.lines import CACHE

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
TIDY = Use("tidy", ["edge1"], {"rows": ("clean.out", EACH)})
STEPS = [FLIGHTS, CLEAN, TIDY, output(TIDY)]
PARTS = {"inputs.flights": {"edge1": 1}}


def damaged(*units: bytes, node: str = "n1", run: RunKey = RUN) -> UnitsDamaged:
    return UnitsDamaged(node, run, units, b"d" * 32, 1000, "its bytes are not those of its digest")


def finished(desk: Desk) -> bytes:
    """The run goes to its end, and is over for all; the unit that is its result."""
    (clean,) = desk.read("inputs.flights").starts
    (tidy,) = desk.done(clean).starts
    said = desk.done(tidy)
    assert said.ended is not None
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FINISHED))
    return outputs(tidy)[0].unit.id


def told(said: Said) -> list[model_pb2.RunOutput]:
    return [each for kind, status in said.hub if kind == "output" for each in status.outputs]  # type: ignore[attr-defined]


def test_a_unit_that_is_needed_is_made_again_before_anybody_reads_it() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    (tidy,) = desk.done(clean).starts
    made = outputs(clean)[0].unit.id
    said = desk.do(damaged(made, *unit_ids(clean, "rows")))
    assert [kind for _, kind, _ in said.nodes if kind in ("open", "start")] == ["open"]
    desk.failed(tidy, kind="data")
    (again,) = desk.read("inputs.flights").starts
    assert again.key.task == clean.key.task
    desk.done(again)
    (last,) = desk.at(desk.now + 10).starts
    assert last.key.task == tidy.key.task
    ended = desk.done(last).ended
    assert ended is not None
    assert (ended.state, desk.progress("clean").done) == (model_pb2.FRAGMENT_STATE_SUCCEEDED, 1)


def test_everybody_hears_what_was_damaged_where() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    said = desk.do(damaged(*unit_ids(clean, "rows")))
    (event,) = [event for event in said.published if event.type == "unit.damaged"]
    assert isinstance(event.details, dict)
    assert (event.details["node"], event.details["bytes"]) == ("n1", 1000)
    assert json.dumps(event.details["digest"]) == f'"{"64" * 32}"'


def test_a_copy_on_another_node_takes_its_place_and_nothing_is_made_again() -> None:
    desk = Desk(STEPS, PARTS, nodes=["n1", "n2"])
    (clean,) = desk.read("inputs.flights").starts
    (unit,) = unit_ids(clean, "rows")
    desk.core.apply(Fetched(RUN, unit, "n2", "", 1000, 0.1))
    said = desk.do(damaged(unit))
    assert not said.recorded(Remade)
    assert len(said.recorded(CopiesLost)) == 1


def test_what_nobody_needs_any_more_is_not_made_again() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    desk.done(clean)
    said = desk.do(damaged(*unit_ids(clean, "rows")))
    assert not said.recorded(Remade)
    assert not desk.do(damaged(b"nobody knows it ")).records
    assert not desk.do(damaged(b"u" * 16, run=RunKey("default", "gone"))).records


def test_a_result_of_an_ended_run_is_told_of_as_lost() -> None:
    desk = Desk(STEPS, PARTS)
    result = finished(desk)
    said = desk.do(damaged(result))
    (lost,) = told(said)
    assert (lost.unit.id, lost.node) == (result, "")
    assert lost.lost == "its bytes were damaged or lost where they lay, and the run that made them is over"
    assert [event.type for event in said.published] == ["unit.damaged", "output.lost"]
    assert [each.lost for each in desk.status().outputs] == [lost.lost]
    desk.restart()
    assert [each.lost for each in desk.status().outputs] == [lost.lost], "it is in the log"
    assert not told(desk.do(damaged(result))), "it is told once"


def test_a_result_that_another_node_has_is_told_of_as_lying_there() -> None:
    desk = Desk(STEPS, PARTS, nodes=["n1", "n2"])
    (clean,) = desk.read("inputs.flights").starts
    (tidy,) = desk.done(clean).starts
    result = outputs(tidy)[0].unit.id
    desk.done(tidy)
    desk.core.apply(Fetched(RUN, result, "n2", "", 1000, 0.1))
    (moved,) = told(desk.do(damaged(result)))
    assert (moved.node, moved.lost) == ("n2", "")


def test_a_node_that_comes_without_a_result_of_an_ended_run_says_the_same() -> None:
    desk = Desk(STEPS, PARTS)
    result = finished(desk)
    desk.lose()
    assert not told(desk.join(process=b"2", units=[result]))
    desk.lose(process=b"2")
    (lost,) = told(desk.join(process=b"3", units=[]))
    assert lost.lost


@pytest.mark.parametrize("at", ["assigned", "retried"])
def test_a_task_that_has_met_the_damage_waits_for_the_unit(at: str) -> None:
    """Whether its failure is heard before what the node says of the damage, or after it."""
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    (unit,) = unit_ids(clean, "rows")
    if at == "assigned":
        desk.do(damaged(unit))
        desk.failed(clean, kind="data")
    else:
        desk.failed(clean, kind="data")
        desk.do(damaged(unit))
        desk.fetched(unit, error="its bytes are not in the store")  # what was asked for meanwhile
    assert not desk.at(desk.now + 10).starts, "its input is not there"
    (again,) = desk.read("inputs.flights").starts
    assert again.key.task == clean.key.task
    assert desk.progress("clean").failed == 1


def test_the_node_is_not_asked_to_look_for_what_it_said_is_gone() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    desk.do(damaged(*unit_ids(clean, "rows")))
    said = desk.failed(clean, kind="data")
    assert not [command for _, command in said.to_nodes("fetch") if isinstance(command, node_pb2.FetchUnit)]


def test_a_cached_result_of_which_anything_is_damaged_is_in_the_cache_no_more() -> None:
    desk = Desk(STEPS, PARTS)
    book = desk.core._book
    first, second = ((Output("rows", 0, UnitInfo(b"", digest * 32, 10)),) for digest in (b"a", b"b"))
    for key, node, contents in ((b"1", "n1", first), (b"2", "n1", second), (b"3", "n2", first)):
        caching.put(book, key, Cached("default", "clean@1", node, 0.0, list(contents)))
    said = desk.do(damaged(content_name(b"a" * 32), run=RunKey("default", CACHE)))
    assert said.recorded(CacheDropped) == [CacheDropped((b"1",))]
    assert set(book.state.cached) == {b"2", b"3"}
