"""A node that goes on by itself: the same tasks, each once, as if the coordinator had given them."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes.records import Assigned
from cluster_agent.coordinator.tasks.records import PartOpened
from tests.coordinator.desk import RUN, RUNNING, Desk, Said, outputs
from tests.coordinator.federation import Faults, Federation, made
from tests.coordinator.test_federation import CLUSTERS, few, finish
from tests.coordinator.workflows import EACH, GATHER, Use, fragments, output, random_graph, source
from tests.fixtures import words
from wire.digests import source_task_id
from wire.lines import line_name

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
TIDY = Use("tidy", ["edge1"], {"rows": ("clean.out", EACH)})
SUM = Use("sum", ["edge1"], {"rows": ("tidy.out", EACH)})
STEPS = [FLIGHTS, CLEAN, TIDY, SUM, output(SUM)]


def started(nodes: list[str] | None = None) -> tuple[Desk, words.Task]:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 1}}, nodes=nodes or ["n1"])
    (task,) = desk.read("inputs.flights").starts
    return desk, task


def goes_on(desk: Desk, task: words.Task, node: str = "n1") -> tuple[words.Task, messages.NodeSaid]:
    """The task that the node starts by itself, and its word that it did."""
    (following,) = desk.ears[node].following(task, outputs(task)) or []
    said = messages.NodeSaid(node, words.done(RUN, task.key.task, task.key.attempt, outputs(task), 1.0, followed=True))
    return following, said


def test_a_chain_is_followed_to_its_end_and_nothing_is_ordered() -> None:
    desk, task = started()
    said = Said()
    for step in ("clean", "tidy"):
        assert task.step == step
        following, word = goes_on(desk, task)
        said = desk.do(word)
        assert said.starts == []
        assert desk.progress(following.step).running == 1
        task = following
    assert desk.ears["n1"].following(task, outputs(task)) is None, "an output is no task"
    assert desk.done(task).ended is not None
    assert desk.status().state == model_pb2.FRAGMENT_STATE_SUCCEEDED


def test_only_what_one_step_here_takes_alone_is_followed() -> None:
    """Not by two steps, not with another input, not elsewhere, and no gathering."""
    both = Use("both", ["edge1"], {"rows": ("clean.out", EACH)})
    far = Use("far", ["edge2"], {"rows": ("tidy.out", EACH)})
    all_of = Use("all", ["edge1"], {"rows": ("both.out", GATHER)})
    steps = [FLIGHTS, CLEAN, TIDY, both, far, all_of, output(far), output(all_of, "all")]
    desk = Desk(steps, {"inputs.flights": {"edge1": 1}}, clusters=("edge1", "edge2"))
    (first,) = desk.read("inputs.flights").starts
    assert desk.ears["n1"].following(first, outputs(first)) is None
    for task in desk.done(first).starts:
        assert desk.ears["n1"].following(task, outputs(task)) is None


def test_of_two_ports_that_one_input_reads_only_the_one_that_is_followed_is_gone_on_from() -> None:
    """The other is read by somebody else as well, so what comes of it is ordered."""
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)}, ("out", "rest"))
    tidy = Use("tidy", ["edge1"], {"rows": ("clean.rest", EACH)}, also={"rows": ["clean.out"]})
    desk = Desk([FLIGHTS, clean, tidy, output(tidy), output(clean, "clean")], {"inputs.flights": {"edge1": 1}})
    (task,) = desk.read("inputs.flights").starts
    made = outputs(task)
    (following,) = desk.ears["n1"].following(task, tuple(each for each in made if each.port == "rest")) or []
    said = desk.do(messages.NodeSaid("n1", words.done(RUN, task.key.task, task.key.attempt, made, 1.0, followed=True)))
    (ordered,) = said.starts
    assert ordered.key.task != following.key.task
    desk.done(ordered)
    assert desk.done(following).ended is not None


def test_a_result_that_is_repeated_leaves_what_followed_alone() -> None:
    desk, task = started()
    _, word = goes_on(desk, task)
    desk.do(word)
    assert desk.do(word).to_nodes("cancel") == []
    desk.lose()
    following, _ = goes_on(desk, task)
    kept = [unit.unit.id for unit in outputs(task)]
    assert desk.do(word).to_nodes("cancel") == []
    assert desk.join(running=[following], units=kept).to_nodes("cancel") == []
    assert desk.done(following).starts[0].step == "sum"


def test_what_followed_is_tried_again_if_its_daemon_dies_and_a_later_attempt_is_not_followed() -> None:
    desk, task = started()
    following, word = goes_on(desk, task)
    desk.do(word)
    desk.lose()
    said = desk.join(process=b"2", units=[unit.unit.id for unit in outputs(task)])
    assert said.wake is not None
    (again,) = desk.at(said.wake).starts
    assert (again.key.task, again.key.attempt) == (following.key.task, 2)
    assert desk.ears["n1"].following(again, outputs(again)) is None
    (last,) = desk.done(again).starts
    assert last.key.attempt == 2, "number 1 may be on its way on some node"


def test_what_a_node_did_after_an_attempt_that_does_not_count_is_called_back() -> None:
    desk, task = started(["n1", "n2"])
    (info,) = desk.core.tasks(RUN)
    node = info.node
    other = "n2" if node == "n1" else "n1"
    following, word = goes_on(desk, task, node)
    desk.lose(node)
    desk.at(desk.now + 10)  # the task goes to the other node, once it has the unit
    desk.read("inputs.flights", node=other)
    desk.at(desk.now + 10)
    said = desk.do(word)
    assert not said.to_nodes("cancel"), "it is away"
    again = desk.join(node, running=[following])
    cancelled = [(name, command.key.task) for name, command in again.to_nodes("cancel")]  # type: ignore[attr-defined]
    assert cancelled == [(node, following.key.task)], "what it could follow from was told before it joined"
    said = desk.do(word)
    cancelled = [(name, command.key.task) for name, command in said.to_nodes("cancel")]  # type: ignore[attr-defined]
    assert cancelled == [(node, following.key.task)]


def test_nodes_hear_that_a_run_is_held_and_what_is_ordered_then_is_not_followed() -> None:
    desk, task = started()
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_SUSPENDED))
    assert desk.ears["n1"].held[RUN] is True
    assert desk.ears["n1"].following(task, outputs(task)) is None
    assert desk.done(task).starts == []
    said = desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_RUNNING))
    assert desk.ears["n1"].held[RUN] is False
    assert [task.step for task in said.starts] == ["tidy"]


def test_a_node_that_followed_while_the_run_was_being_suspended_goes_on_with_it() -> None:
    desk, task = started()
    following, word = goes_on(desk, task)
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_SUSPENDED))
    assert desk.do(word).to_nodes("cancel") == []
    assert desk.done(following).starts == []


def test_a_restart_knows_what_was_followed() -> None:
    desk, task = started()
    following, word = goes_on(desk, task)
    desk.do(word)
    desk.restart()
    said = desk.join(running=[following], units=[unit.unit.id for unit in outputs(task)])
    assert said.to_nodes("cancel") == []
    assert [task.step for task in desk.done(following).starts] == ["sum"]


def opened(*nodes: str) -> tuple[Desk, str, words.Task, messages.SourceRead]:
    """A desk with a part of data, the node that opens it, the task that it goes on with, and its word that it did."""
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 1}}, nodes=nodes)
    ((node, command),) = desk.first.to_nodes("open")
    assert isinstance(command, node_pb2.OpenSource)
    begin = desk.ears[node].opening(command)
    assert begin is not None
    word = msgspec.structs.replace(desk.part("inputs.flights", 0, node), followed=True)
    return desk, node, begin(word.outputs[0].unit), word


def orders_to_follow(said: Said) -> list[bool]:
    """Of the orders to open a part, whether they name what to go on with."""
    return [isinstance(command, node_pb2.OpenSource) and command.follow > 0 for _, command in said.to_nodes("open")]


def test_a_node_goes_on_with_the_part_that_it_has_opened() -> None:
    desk, node, task, word = opened("n1")
    said = desk.do(word)
    assert (said.starts, desk.progress("clean").running) == ([], 1)
    following, done = goes_on(desk, task, node)
    assert (desk.do(done).starts, desk.progress(following.step).running) == ([], 1)
    desk.restart()
    units = [unit.unit.id for unit in (*word.outputs, *outputs(task))]
    assert desk.join(running=[following], units=units).to_nodes("cancel") == []
    assert [task.step for task in desk.done(following).starts] == ["sum"]


def test_a_node_that_may_not_go_on_with_a_part_is_given_its_task_as_ever() -> None:
    """It became several units, say, or the run is being suspended."""
    desk, _, _, word = opened("n1")
    (task,) = desk.do(msgspec.structs.replace(word, followed=False)).starts
    assert (task.step, task.key.attempt) == ("clean", 1)


def test_only_the_first_opening_of_a_part_is_gone_on_with() -> None:
    desk, node, task, word = opened("n1")
    desk.lose()
    again = desk.join(running=[task])
    assert [command.key.task for _, command in again.to_nodes("cancel")] == [task.key.task]  # type: ignore[attr-defined]
    assert orders_to_follow(again) == [False], "its word was lost, and it may have begun"
    (other,) = desk.do(msgspec.structs.replace(word, asked=False, followed=False)).starts
    assert (other.key.task, other.key.attempt) == (task.key.task, 2)
    desk.done(task, node)
    assert desk.progress("clean").done == 0, "a late word of the attempt that does not count"
    assert [task.step for task in desk.done(other).starts] == ["tidy"]


def test_what_a_node_did_with_a_part_that_another_was_given_is_called_back() -> None:
    desk, node, task, word = opened("n1", "n2")
    other = "n2" if node == "n1" else "n1"
    desk.lose(node)
    said = desk.at(desk.now + 10)
    assert [name for name, _ in said.to_nodes("open")] == [other]
    assert orders_to_follow(said) == [False]
    desk.join(node)
    said = desk.do(word)  # it was opening the part all the time
    assert [command.key.task for _, command in said.to_nodes("cancel")] == [task.key.task]  # type: ignore[attr-defined]
    assert [record.task for record in said.recorded(Assigned)] == [task.key.task]  # type: ignore[attr-defined]
    assert [info.attempt for info in desk.core.tasks(RUN)] == [2]


def test_a_fragment_of_a_newer_epoch_has_no_part_gone_on_with_that_was_before() -> None:
    desk, _, task, word = opened("n1")
    assert orders_to_follow(desk.assign(epoch=2)) == [False]
    said = desk.do(word)
    assert [command.key.task for _, command in said.to_nodes("cancel")] == [task.key.task]  # type: ignore[attr-defined]
    assert [(each.key.task, each.key.attempt) for each in said.starts] == [(task.key.task, 2)]


def test_in_a_line_that_remembers_results_nothing_is_gone_on_with() -> None:
    """The node has bytes of one in its store, which would be others after it had done that task by itself."""
    desk, task = started()
    desk.done(task)
    run = line_name(RUN.run, 2)
    line = fragments(STEPS, {"inputs.flights": {"edge1": 1}}, ["edge1"], run=run, epoch=2)["edge1"]
    ((_, order),) = desk.do(messages.FragmentAssigned(line, RUNNING)).to_nodes("open")
    assert isinstance(order, node_pb2.OpenSource)
    assert (order.run, order.follow) == (run, 0)
    part = made(source_task_id("default", run, "inputs.flights", 0), "out", 0, 1000)
    (task,) = desk.do(
        messages.SourceRead("n1", RunKey("default", run), "inputs.flights", 0, (part,), asked=True)
    ).starts
    assert (task.step, task.key.attempt) == ("tidy", 1), "what is before that is remembered"
    assert desk.ears["n1"].following(task, outputs(task)) is None


def test_what_was_opened_for_a_former_fragment_is_not_believed() -> None:
    """The node has been told to forget that run, and does so after it has answered."""
    desk, node, task, word = opened("n1")
    desk.assign(epoch=2)
    said = desk.do(msgspec.structs.replace(word, epoch=1))
    assert [command.key.task for _, command in said.to_nodes("cancel")] == [task.key.task]  # type: ignore[attr-defined]
    assert said.recorded(PartOpened) == []
    said = desk.do(msgspec.structs.replace(desk.part("inputs.flights", 0, node), epoch=2))
    assert [(each.key.task, each.key.attempt) for each in said.starts] == [(task.key.task, 2)]


def test_a_node_goes_on_with_as_many_parts_as_it_has_room_for() -> None:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 5}}, nodes=["n1", "n2"])
    assert sorted(orders_to_follow(desk.first)) == [False] + [True] * 4


def end_state(seed: int, faults: Faults, follow: float) -> tuple[Federation, object]:
    random = Random(seed)
    names = random.sample(list(CLUSTERS), random.randint(1, 2))
    steps, parts = random_graph(random, names)
    last = next(step.inputs["in"][0] for step in steps if step.kind == "output")
    for number in range(random.randint(1, 4)):  # a chain, so that there is something to follow
        steps.append(Use(f"chain{number}", names[:1], {"rows": (last, EACH)}))
        last = f"chain{number}.out"
    steps.append(output(steps[-1], "chained"))
    federation = Federation(random, {name: CLUSTERS[name] for name in names}, faults, follow=follow)
    federation.introduce()
    federation.submit(steps, parts)
    federation.run()
    federation.check_succeeded()
    finish_state = (
        sorted(federation.consumed.items()),
        sorted(federation.closed.items()),
        sorted(unit for agent in federation.agents.values() for _, unit in agent.core._book.lives[RUN].run.outputs),
    )
    finish(federation)
    return federation, finish_state


@few
@given(st.integers(0, 2**32))
def test_a_node_that_follows_gives_the_end_that_one_gives_that_does_not(seed: int) -> None:
    """Under crashes of the agent, restarts of nodes with their journal, broken streams and repeated words."""
    faults = Faults(crash=0.03, node_restart=0.02, stream_breaks=0.02, repeats=0.1, attempt_fails=0.0)
    _, with_it = end_state(seed, faults, 0.9)
    plain, without = end_state(seed, Faults(), 0.0)
    assert plain.followed == 0
    assert with_it == without
