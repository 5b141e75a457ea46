"""A second line of a run on a cluster's nodes: what it counts on is there, whenever a node hears of the line."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.cache.records import Recalled
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.coordinator.units.errands import Fetch
from cluster_agent.coordinator.units.records import CopiesLost
from tests.coordinator.desk import RUN, RUNNING, Desk, Said, outputs
from tests.coordinator.federation import made
from tests.coordinator.workflows import EACH, Use, fragments, output, source
from wire.digests import source_task_id
from wire.lines import line_name

FORGOTTEN = model_pb2.DESIRED_STATE_FORGOTTEN
LINE = RunKey(RUN.namespace, line_name(RUN.run, 2))
FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
STEPS = [FLIGHTS, CLEAN, output(CLEAN)]
PARTS = {"inputs.flights": {"edge1": 2}}


class TwoNodes(Desk):
    """A run with two tasks, the first of which is done: n1 has the result. Then n1 is out of touch."""

    def __init__(self) -> None:
        super().__init__(STEPS, PARTS, nodes=["n1", "n2"])
        (task,) = self.read("inputs.flights", 0, "n1").starts
        self.done(task, "n1")
        self.result_unit = outputs(task)[0].unit.id
        self.lose("n1")

    def begin_line(self) -> Said:
        """A second line begins, and n2 has opened its first part: the result is recalled."""
        new = fragments(STEPS, PARTS, ["edge1"], run=LINE.run, epoch=2)["edge1"]
        began = self.do(messages.FragmentAssigned(new, RUNNING))
        part = made(source_task_id(RUN.namespace, RUN.run, "inputs.flights", 0), "out", 0, 1000)
        opened = self.do(messages.SourceRead("n2", LINE, "inputs.flights", 0, (part,), asked=True))
        assert len(opened.recorded(Recalled)) == 1
        assert began.to_nodes("adopt") == []
        return opened

    def come_back(self, *held: RunKey) -> Said:
        """n1 is in touch again, and has the result under these names."""
        units = tuple((run, self.result_unit) for run in held)
        place = Place(self.cluster, "n1", "n1:1", "n1")
        return self.do(messages.NodeJoined("n1", b"1", self.cpus, 1 << 30, place, (), units, ()))

    def has_result(self) -> bool:
        return "n1" in self.core._book.lives[LINE].run.units[self.result_unit].copies


def adopted(said: Said) -> list[bytes]:
    found: list[bytes] = []
    for node, command in said.to_nodes("adopt"):
        assert isinstance(command, node_pb2.AdoptUnits)
        assert (node, command.from_run, command.run) == ("n1", RUN.run, LINE.run)
        found += command.units
    return found


def test_a_node_that_was_away_when_a_line_began_is_told_of_it_when_it_comes() -> None:
    desk = TwoNodes()
    desk.begin_line()
    said = desk.come_back(RUN)
    assert adopted(said) == [desk.result_unit]
    assert said.recorded(CopiesLost) == []
    assert desk.has_result()


def test_it_is_told_before_it_frees_what_the_other_line_had() -> None:
    desk = TwoNodes()
    desk.begin_line()
    desk.do(messages.DesiredChanged(RUN, FORGOTTEN))
    kinds = [kind for node, kind, _ in desk.come_back(RUN).nodes if node == "n1"]
    assert kinds.index("adopt") < kinds.index("end_run")
    assert desk.has_result()


def test_so_it_is_after_a_restart_of_the_agent() -> None:
    desk = TwoNodes()
    desk.begin_line()
    desk.restart()
    assert adopted(desk.come_back(RUN)) == [desk.result_unit]
    assert desk.has_result()


def test_a_result_that_is_not_recalled_yet_is_told_of_too() -> None:
    desk = TwoNodes()
    desk.do(messages.FragmentAssigned(fragments(STEPS, PARTS, ["edge1"], run=LINE.run, epoch=2)["edge1"], RUNNING))
    assert adopted(desk.come_back(RUN)) == [desk.result_unit]
    desk.restart()
    assert adopted(desk.come_back(RUN, LINE)) == []


def test_what_a_node_has_in_no_line_is_lost() -> None:
    desk = TwoNodes()
    desk.begin_line()
    said = desk.come_back()
    assert adopted(said) == []
    assert CopiesLost(LINE, "n1", (desk.result_unit,)) in said.records
    assert not desk.has_result()


def test_who_has_yet_to_hear_of_a_line_has_not_lost_what_another_node_asks_it_for() -> None:
    """The word that it has the unit in that line, too, is on its way, and so is the question, which comes behind it."""
    desk = TwoNodes()
    desk.begin_line()
    desk.come_back(RUN)
    live = desk.core._book.lives[LINE]
    unit = live.run.units[desk.result_unit]
    live.fetches[unit.id, "n2"] = Fetch(unit.id, "n2", tasks=[b"t"], source="n1", said=True)
    said = desk.do(messages.FetchEnded("n2", LINE, unit.id, 0, 0.0, "not found", True))
    assert said.recorded(CopiesLost) == []
    ((node, look),) = said.to_nodes("fetch")
    assert isinstance(look, node_pb2.FetchUnit)
    assert (node, look.key.run, list(look.addresses)) == ("n1", LINE.run, [])
    desk.do(messages.FetchEnded("n1", LINE, unit.id))
    assert desk.has_result()


def test_a_line_begins_with_what_the_newest_has_done_where_the_first_counts_no_more() -> None:
    desk = TwoNodes()
    desk.begin_line()
    desk.come_back(RUN)
    desk.do(messages.DesiredChanged(RUN, FORGOTTEN))
    third = RunKey(RUN.namespace, line_name(RUN.run, 3))
    new = fragments(STEPS, PARTS, ["edge1"], run=third.run, epoch=3)["edge1"]
    said = desk.do(messages.FragmentAssigned(new, RUNNING))
    ((node, adopt),) = said.to_nodes("adopt")
    assert isinstance(adopt, node_pb2.AdoptUnits)
    assert (node, adopt.from_run, adopt.run, list(adopt.units)) == ("n1", LINE.run, third.run, [desk.result_unit])


def test_what_a_later_line_does_with_a_result_changes_nothing_of_what_an_earlier_one_knows() -> None:
    desk = TwoNodes()
    desk.do(messages.FragmentAssigned(fragments(STEPS, PARTS, ["edge1"], run=LINE.run, epoch=2)["edge1"], RUNNING))
    desk.come_back(RUN)
    desk.do(messages.DesiredChanged(RUN, FORGOTTEN))
    third = RunKey(RUN.namespace, line_name(RUN.run, 3))
    desk.do(messages.FragmentAssigned(fragments(STEPS, PARTS, ["edge1"], run=third.run, epoch=3)["edge1"], RUNNING))
    part = made(source_task_id(RUN.namespace, RUN.run, "inputs.flights", 0), "out", 0, 1000)
    opened = desk.do(messages.SourceRead("n2", third, "inputs.flights", 0, (part,), asked=True))
    assert len(opened.recorded(Recalled)) == 1
    known = desk.core._book.lives[LINE].run.known
    assert [each.copies for entry in known.values() for each in entry.outputs] == [["n1"]]
