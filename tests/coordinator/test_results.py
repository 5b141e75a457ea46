"""What becomes of results: committed once, acknowledged after, late ones dropped without harm."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.actions import Action, Append, TellNode
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.tasks.records import Committed
from cluster_agent.orders.messages import Acks, Orders, Work
from tests.coordinator.desk import RUN, Desk, outputs, unit_ids
from tests.coordinator.workflows import EACH, Use, output, source
from tests.fixtures import words

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
TIDY = Use("tidy", ["edge1"], {"rows": ("clean.out", EACH)})
STEPS = [FLIGHTS, CLEAN, TIDY, output(TIDY)]


def desk_with(parts: int = 1, **kwargs: object) -> Desk:
    return Desk(STEPS, {"inputs.flights": {"edge1": parts}}, **kwargs)  # type: ignore[arg-type]


def test_a_result_is_committed_before_it_is_acknowledged() -> None:
    desk = desk_with()
    (task,) = desk.read("inputs.flights").starts
    actions = desk.core.handle(desk.result(task), desk.now)
    kinds = [type(action.command) if isinstance(action, TellNode) else type(action) for action in actions]
    assert kinds.index(Append) < kinds.index(Acks)
    assert kinds.index(Append) < kinds.index(Orders)


def test_results_of_a_batch_are_acknowledged_together() -> None:
    desk = desk_with(2)
    first, second = desk.do(desk.part("inputs.flights", 0), desk.part("inputs.flights", 1)).starts
    actions = desk.core.handle_all([desk.result(first), desk.result(second)], desk.now)
    (acks,) = [said for said in map(told, actions) if isinstance(said, Acks)]
    assert acks.tasks == ((first.key.task, 1), (second.key.task, 1))


def test_orders_of_a_batch_are_said_together_and_what_they_share_once_a_stream() -> None:
    desk = desk_with(4)
    desk.lose()
    desk.join()  # so that it was told no works with the parts
    first = desk.core.handle_all([desk.part("inputs.flights", index) for index in range(2)], desk.now)
    next_work, work, orders = [said for said in map(told, first) if isinstance(said, Work | Orders)]
    assert isinstance(next_work, Work) and isinstance(work, Work) and isinstance(orders, Orders)
    assert work.follow == (("out", next_work.number),), "the work that follows is said before"
    assert (orders.work, len(orders.orders)) == (work.number, 2)
    assert node_pb2.StartTask.FromString(work.start).step == "clean"
    done = [messages.NodeSaid("n1", words.done(RUN, order.task, 1)) for order in orders.orders]
    more = desk.core.handle_all([*done, *(desk.part("inputs.flights", index) for index in (2, 3))], desk.now)
    (again,) = [said for said in map(told, more) if isinstance(said, Work | Orders)]
    assert isinstance(again, Orders) and again.work == work.number
    desk.lose()
    units = tuple((RUN, unit.id) for order in again.orders for unit in order.inputs[0])
    desk.do(messages.NodeJoined("n1", b"1", 2.0, 0, messages.Place("edge1", "n1"), units=units))
    later = desk.core.handle_all([messages.Tick()], desk.now + 1)
    assert [type(said) for said in map(told, later) if said] == [Work, Orders], "a new stream knows none"


def told(action: Action) -> object:
    return action.command if isinstance(action, TellNode) else None


def test_a_result_that_is_repeated_is_acknowledged_and_changes_nothing() -> None:
    desk = desk_with()
    (task,) = desk.read("inputs.flights").starts
    desk.done(task)
    before = desk.core.snapshot()
    said = desk.done(task)
    assert desk.core.snapshot() == before
    assert len(said.to_nodes("ack")) == 1
    assert said.freed() == set(), "what the task made is in use"
    assert said.starts == []


def test_a_result_of_an_older_attempt_is_freed_where_it_lies() -> None:
    desk = desk_with(nodes=["n1", "n2"])
    (task,) = desk.read("inputs.flights", node="n1").starts
    desk.lose("n1")
    desk.at(desk.now + 6)
    desk.read("inputs.flights", node="n2")  # opened again, since its only copy is out of reach
    (moved,) = desk.at(desk.now + 6).to_nodes("start")
    assert moved[0] == "n2"
    desk.join("n1", units=unit_ids(task, "rows"))
    late = desk.done(task, "n1")
    assert len(late.to_nodes("ack")) == 1
    assert late.recorded(Committed) == []
    assert late.freed("n1") == {made.unit.id for made in outputs(task)}


def test_a_result_of_a_run_that_is_not_known_is_acknowledged_and_freed() -> None:
    desk = desk_with()
    (task,) = desk.read("inputs.flights").starts
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FORGOTTEN))
    said = desk.done(task)
    assert len(said.to_nodes("ack")) == 1
    assert said.freed() == {made.unit.id for made in outputs(task)}


def test_an_input_is_freed_when_its_last_consumer_has_committed() -> None:
    other = Use("other", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([FLIGHTS, CLEAN, other, output(CLEAN), output(other, "second")], {"inputs.flights": {"edge1": 1}})
    first, second = desk.read("inputs.flights").starts
    assert desk.done(first).freed() == set()
    assert desk.done(second).freed() == set(unit_ids(first, "rows"))


def test_what_nobody_consumes_is_freed_at_once() -> None:
    waste = Use("waste", ["edge1"], {"rows": ("inputs.flights.out", EACH)}, outputs=("out", "log"))
    desk = Desk([FLIGHTS, waste, output(waste)], {"inputs.flights": {"edge1": 1}})
    (task,) = desk.read("inputs.flights").starts
    said = desk.done(task)
    log = next(made.unit.id for made in outputs(task) if made.port == "log")
    assert said.freed() == {log, *unit_ids(task, "rows")}


def test_the_hub_hears_of_each_result_of_the_run_with_its_place() -> None:
    desk = desk_with()
    (task,) = desk.read("inputs.flights").starts
    (task,) = desk.done(task).starts
    said = desk.done(task)
    kind, status = said.hub[0]
    assert kind == "output"
    (result,) = status.outputs  # type: ignore[attr-defined]
    assert (result.name, result.cluster, result.node) == ("report", "edge1", "n1")
    assert result.unit.id == outputs(task)[0].unit.id
    assert said.freed() == set(unit_ids(task, "rows")), "the result itself is kept"
    assert said.ended is not None
    assert [kept.unit.id for kept in said.ended.outputs] == [result.unit.id]


def test_publishing_can_be_switched_off() -> None:
    desk = desk_with(policy=Policy(publish=False))
    (task,) = desk.read("inputs.flights").starts
    assert desk.done(task).published == []


def test_a_task_that_was_over_at_once_is_told_as_started_when_it_was() -> None:
    desk = desk_with()
    (task,) = desk.read("inputs.flights").starts
    started, done, _ = desk.done(task, seconds=0.25).published
    assert (started.type, done.type) == ("task.started", "task.done")
    assert (started.ago, done.ago) == (0.25, 0.0)
    assert done.data["made"] == [outputs(task)[0].unit.id]


def test_people_hear_what_happens_to_a_task() -> None:
    desk = desk_with()
    (task,) = desk.read("inputs.flights").starts
    started = desk.do(messages.NodeSaid("n1", words.started(RUN, task.key.task, 1)))
    done = desk.done(task)
    assert [event.type for event in (*started.published, *done.published)] == [
        "task.started",
        "task.done",
        "step.closed",
    ]
    assert started.published[0].subject == f"runs/run-1/steps/clean/tasks/{task.key.task.hex()}"
