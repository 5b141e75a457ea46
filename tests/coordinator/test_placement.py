"""Which node a task goes to, which cluster a unit goes to, and how much at a time."""

from __future__ import annotations

from bdw_fed.v1 import federation_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.clusters.records import Spilled
from tests.coordinator.desk import RUN, Desk, outputs, unit_ids
from tests.coordinator.federation import made
from tests.coordinator.workflows import EACH, GATHER, Use, fragments, output, source
from tests.fixtures import words
from wire.digests import source_task_id

FLIGHTS = source("flights", ["edge1"])


def clean_desk(parts: int, **kwargs: object) -> Desk:
    options = {key: kwargs.pop(key) for key in ("pool_max", "pool_min", "idle", "cpus_each") if key in kwargs}
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    for key, value in options.items():
        setattr(clean, key.removesuffix("_each"), value)
    return Desk([FLIGHTS, clean, output(clean)], {"inputs.flights": {"edge1": parts}}, **kwargs)  # type: ignore[arg-type]


def read_all(desk: Desk, parts: int, node: str = "n1") -> list[messages.Event]:
    return [desk.part("inputs.flights", index, node) for index in range(parts)]


def test_a_node_is_not_given_more_than_it_has_room_for() -> None:
    desk = clean_desk(5)
    first = desk.do(*read_all(desk, 5)).starts
    assert len(first) == 2
    assert len(desk.done(first[0]).starts) == 1


def test_short_tasks_are_queued_at_the_node_ahead_of_its_room() -> None:
    desk = clean_desk(40)
    first = desk.do(*read_all(desk, 40)).starts
    said = desk.done(first[0], seconds=0.01)
    assert len(said.starts) == 2 * (1 + 5) - 1, "as many as it gets through in a twentieth of a second"


def test_what_waits_ahead_is_shared_by_the_nodes_evenly() -> None:
    desk = clean_desk(41, nodes=["n1", "n2"])
    first = desk.do(*read_all(desk, 41)).to_nodes("start")
    node, task = first[0]
    desk.done(task, node, seconds=0.0001)  # type: ignore[arg-type]
    one, two = (len(known.tasks) for known in desk.core._book.nodes.values())
    assert one + two == 40, "a node is given what it gets through in a twentieth of a second, and that is more"
    assert abs(one - two) <= 8


def test_long_tasks_are_not_queued_ahead() -> None:
    desk = clean_desk(10)
    first = desk.do(*read_all(desk, 10)).starts
    assert len(desk.done(first[0], seconds=3.0).starts) == 1


def test_a_pools_maximum_bounds_its_workers_on_the_cluster_and_not_what_waits_for_them() -> None:
    desk = clean_desk(40, pool_max=1, nodes=["n1", "n2"])
    ((node, size),) = desk.first.to_nodes("pool")
    said = desk.do(*read_all(desk, 40))
    assert (size.workers, size.bounded) == (1, True)  # type: ignore[attr-defined]
    ((where, task),) = said.to_nodes("start")
    assert where == node, "the other node gets no task, since it may have no worker"
    desk.done(task, node, seconds=0.001)  # type: ignore[arg-type]
    assert 1 < desk.progress("clean").running <= 39


def test_a_pools_maximum_bounds_long_tasks_on_the_cluster() -> None:
    desk = clean_desk(10, pool_max=3, nodes=["n1", "n2"])
    first = desk.do(*read_all(desk, 10)).starts
    assert len(first) + len(desk.do(messages.FetchEnded("n2", RUN, b"")).starts) <= 3
    assert desk.progress("clean").running == 3
    desk.done(first[0], seconds=10.0)
    assert desk.progress("clean").running == 3


def test_a_task_goes_where_its_bytes_are() -> None:
    desk = clean_desk(1, nodes=["n1", "n2", "n3"])
    ((node, _),) = desk.read("inputs.flights", node="n2").to_nodes("start")
    assert node == "n2"


def test_bytes_are_brought_to_a_node_with_room_before_the_task_starts_there() -> None:
    desk = clean_desk(3, nodes=["n1", "n2"])
    said = desk.do(*read_all(desk, 3, "n1"))
    assert len(said.starts) == 2
    ((node, fetch),) = said.to_nodes("fetch")
    assert node == "n2"
    assert list(fetch.addresses) == ["n1:1"]  # type: ignore[attr-defined]
    ((node, _),) = desk.fetched(fetch.key.unit, "n2").to_nodes("start")  # type: ignore[attr-defined]
    assert node == "n2"
    assert not desk.status().traffic, "bytes between nodes of a cluster are not traffic between clusters"


def test_the_inputs_of_a_gathering_task_are_brought_together() -> None:
    report = Use("report", ["edge1"], {"parts": ("inputs.flights.out", GATHER)})
    desk = Desk([FLIGHTS, report, output(report)], {"inputs.flights": {"edge1": 3}}, nodes=["n1", "n2"])
    desk.read("inputs.flights", 0, "n1")
    desk.read("inputs.flights", 1, "n2")
    said = desk.read("inputs.flights", 2, "n2")
    ((node, fetch),) = said.to_nodes("fetch")
    assert node == "n2", "where most of the bytes are"
    (task,) = desk.fetched(fetch.key.unit, "n2").starts  # type: ignore[attr-defined]
    assert len(unit_ids(task, "parts")) == 3


def test_later_steps_come_first() -> None:
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    tidy = Use("tidy", ["edge1"], {"rows": ("clean.out", EACH)})
    desk = Desk([FLIGHTS, clean, tidy, output(tidy)], {"inputs.flights": {"edge1": 4}}, cpus=1)
    (first,) = desk.do(*read_all(desk, 4)).starts
    assert [task.step for task in desk.done(first).starts] == ["tidy"]


def test_runs_take_turns() -> None:
    desk = clean_desk(3, cpus=1)
    fragment = fragments(desk.steps, desk.parts, ["edge1"], run="run-2")["edge1"]
    desk.do(messages.FragmentAssigned(fragment, 1))
    (first,) = desk.do(*read_all(desk, 3)).starts
    other = messages.RunKey("default", "run-2")
    units = [made(source_task_id("default", "run-2", "inputs.flights", index), "out", 0, 1000) for index in range(3)]
    desk.do(*(messages.SourceRead("n1", other, "inputs.flights", i, (unit,)) for i, unit in enumerate(units)))
    (second,) = desk.done(first).starts
    run = messages.RunKey(second.key.namespace, second.key.run)
    (third,) = desk.do(
        messages.NodeSaid("n1", words.done(run, second.key.task, second.key.attempt, outputs(second), 1.0))
    ).starts
    assert {second.key.run, third.key.run} == {"run-1", "run-2"}


def test_a_run_of_two_tasks_is_not_starved_by_one_of_many() -> None:
    """Whoever has least room comes first, so the small run's tasks take the first slots that fall free."""
    desk = clean_desk(50, nodes=["n1", "n2"])
    started = desk.do(*read_all(desk, 50)).to_nodes("start")
    fetches = desk.core.tasks(RUN)
    assert len(fetches) >= 4, "all slots are the big run's"
    fragment = fragments(desk.steps, desk.parts | {"inputs.flights": {"edge1": 2}}, ["edge1"], run="run-2")["edge1"]
    desk.do(messages.FragmentAssigned(fragment, 1))
    other = messages.RunKey("default", "run-2")
    units = [made(source_task_id("default", "run-2", "inputs.flights", index), "out", 0, 1000) for index in range(2)]
    desk.do(*(messages.SourceRead("n1", other, "inputs.flights", i, (unit,)) for i, unit in enumerate(units)))
    said = desk.do(*(desk.result(task, node) for node, task in started[:2]))  # type: ignore[arg-type]
    assert {task.key.run for task in said.starts} == {"run-2"}
    assert len(said.starts) + len(said.to_nodes("fetch")) >= 2


def test_what_nobody_smaller_wants_is_the_big_runs() -> None:
    desk = clean_desk(50)
    desk.do(*read_all(desk, 50))
    fragment = fragments(desk.steps, {}, ["edge1"], run="run-2")["edge1"]
    desk.do(messages.FragmentAssigned(fragment, 1))
    assert desk.progress("clean").running == 2


# ------------------------------------------------------------------------------------------------- between clusters


def spread(parts: int, **kwargs: object) -> Desk:
    clean = Use("clean", ["edge1", "cloud"], {"rows": ("inputs.flights.out", EACH)})
    return Desk(
        [FLIGHTS, clean, output(clean)],
        {"inputs.flights": {"edge1": parts}},
        clusters=["edge1", "cloud"],
        **kwargs,  # type: ignore[arg-type]
    )


def test_a_unit_stays_as_long_as_there_is_room_here() -> None:
    desk = spread(2)
    said = desk.do(*read_all(desk, 2))
    assert len(said.starts) == 2
    assert said.to_peers("offer") == []


def test_units_go_to_another_cluster_when_they_would_wait_longer_here() -> None:
    desk = spread(20)
    said = desk.do(*read_all(desk, 20))
    offers = said.to_peers("offer")
    assert 5 <= len(offers) <= 15, "about half, since the plan's shares are equal"


def test_a_cluster_that_cannot_be_reached_is_not_offered_anything_while_there_is_another() -> None:
    desk = spread(20)
    directory = federation_pb2.PeerDirectory()
    directory.peers.add(cluster="cloud", reachable=False)
    desk.do(messages.PeersKnown(directory.SerializeToString()))
    assert desk.do(*read_all(desk, 20)).to_peers("offer") == []


def test_a_pinned_step_stays_where_its_units_are_however_long_the_queue() -> None:
    clean = Use("clean", ["edge1", "cloud"], {"rows": ("inputs.flights.out", EACH)}, pinned=True)
    desk = Desk([FLIGHTS, clean, output(clean)], {"inputs.flights": {"edge1": 50}}, clusters=["edge1", "cloud"])
    assert desk.do(*read_all(desk, 50)).to_peers("offer") == []


def test_a_cluster_that_gets_on_faster_is_given_more_of_the_waiting_units() -> None:
    desk = spread(20)
    said = desk.do(*read_all(desk, 20))
    offers = [message.offer for _, message in said.to_peers("offer")]
    more = []
    for offer in offers:
        about = {"edge": offer.edge, "unit": offer.unit.id}
        desk.peer("cloud", accept=peer_pb2.Accept(**about))
        said = desk.peer("cloud", released=peer_pb2.Released(**about))
        more += said.recorded(Spilled)
    assert more
    assert len(offers) + len(more) + desk.progress("clean").waiting + desk.progress("clean").running == 20


def test_the_fewer_slots_are_left_the_more_goes_elsewhere() -> None:
    two = spread(20, nodes=["n1", "n2"])
    none = spread(20)
    none.lose()
    many = len(none.do(*read_all(none, 20)).to_peers("offer"))
    few = len(two.do(*read_all(two, 20)).to_peers("offer"))
    assert many > few
