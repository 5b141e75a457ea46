"""A producer waits for its consumers, up the graph and over clusters, and never so that nobody gets on."""

from __future__ import annotations

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.space import pressure
from tests.coordinator.desk import Desk, outputs
from tests.coordinator.federation import RUN, Faults, Federation
from tests.coordinator.workflows import EACH, SAME, Use, output, source, split
from tests.fixtures import words
from tests.properties.worlds import World
from tests.settings import few

BOUND = 5
UNITS = 60


@few
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_whatever_goes_wrong_a_run_under_pressure_ends_well(seed: int, bound: int) -> None:
    faults = Faults.everything()
    world = World(seed, faults, policy=Policy(units_ahead=bound))
    world.run()
    world.check_succeeded()


@few
@given(st.integers(0, 2**32), st.integers(1, 3))
@example(17000089, 2)  # of a task's two units one is lost, and the other is made again with other bytes just before use
@example(17000441, 3)
@example(7006227, 1)  # what is to be made again waits for room, and another cluster's units come to the same step
@example(7008194, 3)  # of a split in the middle what it had made is lost, and the steps behind it wait for that
def test_what_was_lost_is_made_again_under_pressure(seed: int, bound: int) -> None:
    faults = Faults(node_restart=0.03, node_loses_store=0.5, repeats=0.1)
    world = World(seed, faults, policy=Policy(units_ahead=bound))
    world.run()
    if world.failures:
        world.check_failed()
    else:
        world.check_succeeded()


def chain(seed: int) -> Federation:
    """Many units at an edge, three steps there, and a last one in the cloud."""
    clusters = {"edge1": {"n1": 2.0}, "cloud": {"n1": 2.0}}
    federation = Federation(Random(seed), clusters, policy=Policy(units_ahead=BOUND, ahead_most=0))
    federation.follow = 0.0
    data = source("data", ["edge1"])
    steps = [data]
    for number, where in enumerate(("edge1", "edge1", "edge1", "cloud")):
        steps.append(Use(f"each{number}", [where], {"rows": (f"{steps[-1].name}.out", EACH)}))
    steps.append(output(steps[-1]))
    federation.introduce()
    federation.submit(steps, {data.name: {"edge1": UNITS}})
    return federation


def test_a_step_that_stands_still_in_another_cluster_stops_all_before_it() -> None:
    federation = chain(1)
    slow = federation.agents["cloud"].nodes["n1"]
    slow.finish_one = lambda: None  # type: ignore[method-assign]
    for _ in range(4_000):
        federation.step()
    live = federation.agents["edge1"].core._book.lives[RUN]
    behind = [
        pressure.behind(live, edge) for edge in live.graph.edges if edge.consumer.index > 1 and edge.consumer.placed
    ]
    slots = 2
    assert all(BOUND <= count <= BOUND + slots for count in behind), behind
    assert live.run.steps[1].done <= 3 * (BOUND + slots), "the first step has stopped long before its input is used up"
    del slow.finish_one
    federation.run()
    federation.check_succeeded()
    federation.check_freed()


def test_units_that_wait_for_their_sides_do_not_stop_who_makes_those() -> None:
    data = source("data", ["edge1"])
    both = Use("both", ["edge1"], {"rows": (f"{data.name}.out", EACH)}, ("out", "rest"), pinned=True)
    join = Use("join", ["edge1"], {"rows": ("both.out", EACH), "side": ("both.rest", SAME)}, pinned=True)
    federation = Federation(Random(2), {"edge1": {"n1": 1.0}}, policy=Policy(units_ahead=1, ahead_most=0))
    federation.introduce()
    federation.submit([data, both, join, output(join)], {data.name: {"edge1": 6}})
    federation.run()
    federation.check_succeeded()


def test_what_is_made_again_is_not_held_back_behind_what_another_cluster_has_sent() -> None:
    """Else each would wait for the other: the step for its consumer, and the consumer for what is made again."""
    here, there = "edge1", "edge2"
    data = source("data", [here, there])
    clean = Use("clean", [here, there], {"rows": (f"{data.name}.out", EACH)})
    tidy = Use("tidy", [here], {"rows": ("clean.out", EACH)}, pinned=True)
    desk = Desk(
        [data, clean, tidy, output(tidy)],
        {data.name: {here: 1, there: 1}},
        clusters=[here, there],
        policy=Policy(units_ahead=1, ahead_most=0),
    )
    (first,) = desk.read(data.name).starts
    (behind,) = desk.done(first).starts
    desk.lose()
    desk.join(process=b"2")
    desk.do(messages.NodeChanged("n1", desk.cpus, 1 << 30, cordoned=True))
    desk.read(data.name)
    unit = desk.part(data.name, 1).outputs[0].unit
    sent = peer_pb2.Offer(edge="clean.rows", unit=model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size))
    sent.location.cluster, sent.location.node, sent.location.address = there, "n9", "n9:1"
    desk.peer(there, offer=sent)
    desk.peer(there, grant=peer_pb2.Grant(edge="clean.rows", unit=unit.id))
    desk.fetched(unit.id)
    assert desk.at(desk.now + 10).starts == []
    (again,) = desk.do(messages.NodeChanged("n1", desk.cpus, 1 << 30, cordoned=False)).starts
    assert again.key.task == first.key.task
    assert [task.key.task for task in desk.done(again).starts] == [behind.key.task]


def test_a_split_that_had_begun_is_not_held_back_by_those_who_wait_for_what_it_had_made() -> None:
    data = source("data", ["edge1"])
    cut = split(data)
    tidy = Use("tidy", ["edge1"], {"rows": (f"{cut.name}.out", EACH)}, pinned=True)
    policy = Policy(units_ahead=1, ahead_most=0)
    desk = Desk([data, cut, tidy, output(tidy)], {data.name: {"edge1": 2}}, policy=policy)
    (first,) = desk.read(data.name, 0).starts
    (part,) = outputs(first)
    (behind,) = desk.do(messages.NodeSaid("n1", words.produced(RUN, first.key.task, 1, (part,)))).starts
    assert desk.read(data.name, 1).starts == [], "the other split waits for the step behind it"
    desk.lose()
    desk.join(process=b"2")
    desk.do(desk.part(data.name, 0), desk.part(data.name, 1))
    (again,) = desk.at(desk.now + 10).starts
    assert again.key.task == first.key.task
    (behind_again,) = desk.done(again).starts
    assert behind_again.key.task == behind.key.task
    (other,) = desk.done(behind_again).starts
    assert other.step == cut.name
