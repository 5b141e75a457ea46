"""Outputs of ended runs that lie in a bucket outlive the node that put them there, and go from there in the end."""

from __future__ import annotations

import random

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.messages import FetchEnded, UnitsDamaged, UnitsShared, UnitsUnshared
from cluster_agent.coordinator.units.records import Cleared
from tests.coordinator.desk import RUN, Desk, Said
from tests.coordinator.workflows import EACH, Use, output, source

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
BUCKET, REDIS = "s3://shared/bdw-fed@storage:443", "redis://storage:6379/0/bdw-fed"
DAY = 86_400.0
AWAY = 6.0  # seconds after which a node is given up
FORGOTTEN = messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FORGOTTEN)


def ended(*others: str, retain: float = 0.0, bucket: bool = True) -> tuple[Desk, bytes]:
    """A run is over; its result was made on n1, and lies in the bucket. `others` are there too, and reach it."""
    report = output(CLEAN)
    report.more.execution.output.retain = retain
    desk = Desk([FLIGHTS, CLEAN, report], {"inputs.flights": {"edge1": 1}}, nodes=[])
    desk.join("n1", places=[BUCKET, REDIS])
    desk.do(messages.ClockRead(desk.now))
    (task,) = desk.read("inputs.flights").starts
    desk.done(task)
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FINISHED))
    (result,) = desk.status().outputs
    if bucket:
        assert not refusals(put(desk, result.unit.id)), "what is an output stays there"
    for other in others:
        desk.join(other, places=[BUCKET])
    return desk, result.unit.id


def put(desk: Desk, unit: bytes, place: str = BUCKET, node: str = "n1") -> Said:
    return desk.do(UnitsShared(node, RUN, place, (unit,)))


def refusals(said: Said) -> list[node_pb2.UnshareUnits]:
    """What is to be deleted in places, told once."""
    return [each for each in unshared(said) if not each.answer]


def unshared(said: Said) -> list[node_pb2.UnshareUnits]:
    return [each for _, each in said.to_nodes("unshare") if isinstance(each, node_pb2.UnshareUnits)]


def asked(said: Said) -> list[str]:
    """The nodes that are to take something over."""
    fetches = [(node, each) for node, each in said.to_nodes("fetch") if isinstance(each, node_pb2.FetchUnit)]
    assert all(each.refer and each.place == BUCKET and each.from_cluster == "edge1" for _, each in fetches)
    return [node for node, _ in fetches]


def taken(desk: Desk, unit: bytes, node: str = "n2") -> Said:
    return desk.do(FetchEnded(node, RUN, unit, shared=True))


def refused(desk: Desk, unit: bytes, node: str, *, gone: bool) -> Said:
    return desk.do(FetchEnded(node, RUN, unit, error="the bucket says no", unshared=True, gone=gone))


def told(said: Said) -> list[tuple[str, bool]]:
    """Where the hub is told that outputs lie, and whether they are lost."""
    statuses = [status for kind, status in said.hub if kind == "output"]
    return [(each.node, bool(each.lost)) for status in statuses for each in status.outputs]  # type: ignore[attr-defined]


def lose_for_good(desk: Desk, node: str = "n1") -> Said:
    desk.lose(node)
    return desk.at(desk.now + AWAY)


def lies_at(desk: Desk) -> list[tuple[str, bool]]:
    return [(each.node, bool(each.lost)) for each in desk.status().outputs]


def test_another_node_takes_over_what_a_node_had_that_stays_away() -> None:
    desk, unit = ended("n2")
    said = lose_for_good(desk)
    assert asked(said) == ["n2"]
    assert not told(said), "nothing is lost, and it does not lie elsewhere yet"
    said = taken(desk, unit)
    assert told(said) == [("n2", False)]
    assert [event.type for event in said.published] == ["output.moved"]
    assert desk.join("n1", process=b"2", units=[unit], places=[BUCKET]).freed("n1") == {unit}, "once is enough"
    desk.restart()
    assert lies_at(desk) == [("n2", False)]


def test_a_node_that_is_back_with_an_empty_store_takes_its_own_over() -> None:
    desk, unit = ended()
    desk.lose()
    said = desk.join(process=b"2", places=[BUCKET])
    assert (asked(said), told(said)) == (["n1"], [("", False)])
    assert told(taken(desk, unit, "n1")) == [("n1", False)]


def test_a_node_that_is_only_restarted_has_what_it_had() -> None:
    desk, unit = ended("n2")
    desk.lose()
    said = desk.join(process=b"2", units=[unit], places=[BUCKET])
    assert (asked(said), told(said), said.freed("n1")) == ([], [], set())


@pytest.mark.parametrize("sound", [True, False])
def test_a_node_that_is_back_with_what_it_had_lost_is_to_read_it_and_keeps_what_is_sound(sound: bool) -> None:
    """Its disk was away; or the disk has forgotten with the power that it had dropped what is damaged."""
    desk, unit = ended(bucket=False)
    desk.lose()
    assert told(desk.join(process=b"2")) == [("", True)]
    desk.lose(process=b"2")
    said = desk.join(process=b"3", units=[unit])
    ((_, look),) = said.to_nodes("fetch")
    assert isinstance(look, node_pb2.FetchUnit)
    assert not (look.addresses or look.place or look.refer), "from nowhere"
    said = desk.fetched(unit, error="" if sound else "its bytes are not in the store")
    assert told(said) == ([("n1", False)] if sound else [])
    assert said.freed() == (set() if sound else {unit})
    assert lies_at(desk) == [("n1", False) if sound else ("", True)]


def test_damage_on_a_disk_is_made_good_from_the_bucket() -> None:
    desk, unit = ended()
    said = desk.do(UnitsDamaged("n1", RUN, (unit,), b"d" * 32, 1000, "a bit has flipped"))
    assert asked(said) == ["n1"]
    taken(desk, unit, "n1")
    assert lies_at(desk) == [("n1", False)]


def test_a_bucket_that_is_away_is_waited_for_and_nothing_is_lost() -> None:
    desk, unit = ended("n2")
    lose_for_good(desk)
    for _ in range(20):
        assert not told(refused(desk, unit, "n2", gone=False))
        said = desk.at(desk.now + 31.0)
        assert asked(said) == ["n2"]
    assert lies_at(desk) == [("n1", False)]
    desk.restart()
    desk.join("n2", places=[BUCKET])
    assert asked(desk.at(desk.now + AWAY)) == ["n2"], "an agent that starts again asks too"
    assert told(taken(desk, unit)) == [("n2", False)]


def test_what_no_node_reaches_is_waited_for() -> None:
    desk, _ = ended()
    desk.join("n2")
    assert not asked(lose_for_good(desk))
    assert asked(desk.join("n3", places=[BUCKET])) == ["n3"]


def test_another_node_is_asked_if_the_one_that_was_asked_goes_away() -> None:
    desk, unit = ended("n2", "n3")
    (first,) = asked(lose_for_good(desk))
    (other,) = {"n2", "n3"} - {first}
    assert asked(lose_for_good(desk, first)) == [other]
    taken(desk, unit, other)
    desk.join(first, process=b"2", units=[unit], places=[BUCKET])
    assert desk.do(FetchEnded(first, RUN, unit, shared=True)).freed(first) == {unit}, "its word comes too late"
    assert lies_at(desk) == [(other, False)]


def test_what_the_bucket_has_lost_is_lost_and_told_once() -> None:
    desk, unit = ended()
    desk.lose()
    desk.join(process=b"2", places=[BUCKET])
    said = refused(desk, unit, "n1", gone=True)
    assert told(said) == [("", True)]
    assert [event.type for event in said.published] == ["output.lost"]
    assert not asked(desk.join(process=b"3", places=[BUCKET]))
    assert not told(desk.at(desk.now + 100.0))


def test_what_the_bucket_has_spoilt_is_not_asked_for_there_again() -> None:
    desk, unit = ended("n2")
    said = desk.do(UnitsDamaged("n1", RUN, (unit,), b"d" * 32, 1000, "other bytes", shared=True))
    assert (asked(said), told(said)) == ([], [("", True)])
    assert [list(each.units) for each in refusals(said)] == [[unit]], "nobody needs what lies there"


def test_a_redis_is_not_relied_on() -> None:
    desk, unit = ended()
    desk.do(UnitsDamaged("n1", RUN, (unit,), shared=True))
    assert [list(each.units) for each in refusals(put(desk, unit, REDIS))] == [[unit]]
    assert lies_at(desk) == [("", True)]


def test_what_nobody_knows_is_deleted_there() -> None:
    desk, _ = ended()
    assert [list(each.units) for each in refusals(put(desk, b"u" * 16))] == [[b"u" * 16]]


def over(*others: str) -> tuple[Desk, bytes]:
    """The time of the output is over, while n1 is gone."""
    desk, unit = ended(*others, retain=DAY)
    desk.lose()
    desk.do(messages.ClockRead(desk.now + DAY))
    return desk, unit


def cleared(desk: Desk, unit: bytes, node: str, error: str = "") -> Said:
    return desk.do(UnitsUnshared(node, RUN, BUCKET, (unit,), False, error))


def test_an_output_whose_time_is_over_is_deleted_there_though_its_node_is_gone() -> None:
    desk, unit = over("n2")
    said = desk.at(desk.now + 600.0)
    (order,) = unshared(said)
    assert (list(order.units), order.all, order.answer) == ([unit], False, True)
    assert cleared(desk, unit, "n2").recorded(Cleared)
    assert not unshared(desk.join("n2", places=[BUCKET], process=b"2")), "once is enough"


@pytest.mark.parametrize("meanwhile", ["nobody is there", "the bucket is away", "the agent restarts", "the node goes"])
def test_what_is_to_be_deleted_there_is_not_forgotten(meanwhile: str) -> None:
    desk, unit = over(*(["n2"] if meanwhile != "nobody is there" else []))
    first = desk.at(desk.now + 600.0)
    assert len(unshared(first)) == (meanwhile != "nobody is there")
    if meanwhile == "the bucket is away":
        assert not cleared(desk, unit, "n2", "it does not answer").recorded(Cleared)
        again = desk.at(desk.now + 31.0)
    elif meanwhile == "the node goes":
        desk.join("n3", places=[BUCKET])
        again = desk.lose("n2")
    else:
        if meanwhile == "the agent restarts":
            desk.restart()
        again = desk.join("n2", process=b"2", places=[BUCKET])
    assert [list(each.units) for each in unshared(again)] == [[unit]]
    node = "n3" if meanwhile == "the node goes" else "n2"
    assert cleared(desk, unit, node).recorded(Cleared)
    desk.restart()
    assert not unshared(desk.join("n4", places=[BUCKET]))


def test_a_run_that_is_forgotten_is_deleted_there_though_nobody_is_there_at_the_moment() -> None:
    desk, _ = ended()
    lose_for_good(desk)
    desk.do(FORGOTTEN)
    desk.restart()
    (order,) = unshared(desk.join("n2", places=[BUCKET]))
    assert (order.all, order.answer, list(order.units)) == (True, True, [])
    desk.do(UnitsUnshared("n2", RUN, BUCKET, (), True))
    assert not desk.core._book.state.leftovers


def test_a_late_word_of_some_units_does_not_stand_for_the_whole_run() -> None:
    desk, unit = over("n2")
    desk.at(desk.now + 600.0)
    (order,) = [each for each in unshared(desk.do(FORGOTTEN)) if each.answer]
    assert order.all
    assert not unshared(cleared(desk, unit, "n2"))
    assert desk.core._book.state.leftovers


def test_a_run_that_begins_again_is_not_deleted_under_its_own_hands() -> None:
    desk, _ = ended()
    lose_for_good(desk)
    desk.do(FORGOTTEN)
    desk.assign(epoch=2)
    assert not unshared(desk.join("n2", places=[BUCKET]))


@pytest.mark.parametrize("seed", range(50))
def test_whatever_nodes_do_an_output_is_had_in_the_end_and_nothing_is_left(seed: int) -> None:
    """Nodes lose their stores, stay away and come back, and the bucket answers when it likes: played by the rules."""
    draw = random.Random(seed)
    desk, unit = ended()
    stores: dict[str, set[bytes]] = {"n1": {unit}, "n2": set(), "n3": set()}
    there, bucket, processes = {"n1"}, {unit}, 1
    waiting: list[tuple[str, str]] = []  # node, what it was told

    def hear(said: Said) -> None:
        for node, kind, command in said.nodes:
            if kind == "free":
                stores[node].discard(command.unit)  # type: ignore[attr-defined]
            elif kind in ("fetch", "unshare"):
                waiting.append((node, kind))

    def play(*, calm: bool) -> None:
        nonlocal processes
        node = draw.choice(sorted(stores))
        chance = draw.random()
        if node not in there:
            if chance < 0.4 and not calm:
                stores[node].clear()
            processes += 1
            there.add(node)
            hear(desk.join(node, process=b"%d" % processes, units=sorted(stores[node]), places=[BUCKET]))
            incarnations[node] = b"%d" % processes
        elif chance < 0.5 and not calm:
            there.discard(node)
            waiting[:] = [each for each in waiting if each[0] != node]
            hear(desk.lose(node, incarnations[node]))
        elif waiting:
            name, kind = waiting.pop(draw.randrange(len(waiting)))
            answers = calm or draw.random() < 0.5
            if kind == "fetch":
                if answers and unit in bucket:
                    stores[name].add(unit)
                    hear(taken(desk, unit, name))
                else:
                    hear(refused(desk, unit, name, gone=answers))
            else:
                if answers:
                    bucket.clear()
                hear(desk.do(UnitsUnshared(name, RUN, BUCKET, (), True, "" if answers else "away")))
        else:
            hear(desk.at(desk.now + draw.choice([0.5, 5.0, 40.0])))

    incarnations = {"n1": b"1"}
    for _ in range(60):
        play(calm=False)
        assert not any(each.lost for each in desk.status().outputs)
    for _ in range(60):
        play(calm=True)
    hear(desk.at(desk.now + 60.0))
    while waiting:
        play(calm=True)
    ((node, lost),) = lies_at(desk)
    assert not lost
    assert unit in stores[node]
    assert [name for name, units in stores.items() if unit in units] == [node], "nobody has it besides"
    hear(desk.do(FORGOTTEN))
    for _ in range(30):
        play(calm=True)
    assert not bucket
    assert not desk.core._book.state.leftovers
