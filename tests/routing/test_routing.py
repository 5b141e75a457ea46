"""Which cluster a coordinator chooses: by distance as load rises, by what others say, never held up by silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from bdw_fed.v1 import federation_pb2, model_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.actions import TellLoad
from cluster_agent.coordinator.clusters.records import Spilled
from tests.coordinator.desk import Desk, Said
from tests.coordinator.workflows import EACH, Use, output, source

HERE, NEAR, FAR = "edge1", "edge2", "cloud1"
DISTANCES = {NEAR: 20.0, FAR: 100.0}


@dataclass
class Preferring(Use):
    """A step that says which cluster its units prefer."""

    prefer: str = ""
    tolerates: tuple[str, ...] = ()
    patience: Mapping[str, float] = field(default_factory=dict)

    def proto(self) -> model_pb2.Step:
        step = super().proto()
        step.prefer = self.prefer
        step.tolerates.extend(self.tolerates)
        step.tolerates_for.update(self.patience)
        return step


def desk_of(
    parts: int,
    *,
    prefer: str = "",
    cpus: float = 2.0,
    tolerates: tuple[str, ...] = (),
    patience: Mapping[str, float] | None = None,
) -> Desk:
    first = source("units", [HERE])
    ports = {"rows": ("inputs.units.out", EACH)}
    step = Preferring("work", [HERE, NEAR, FAR], ports, prefer=prefer, tolerates=tolerates, patience=patience or {})
    desk = Desk([first, step, output(step)], {"inputs.units": {HERE: parts}}, clusters=[HERE, NEAR, FAR], cpus=cpus)
    desk.do(directory())
    return desk


def directory(*, taints: tuple[str, ...] = ()) -> messages.PeersKnown:
    found = federation_pb2.PeerDirectory(no_execute=taints)
    for cluster, distance in DISTANCES.items():
        found.peers.add(
            cluster=cluster, can_dial=True, reachable=True, bandwidth=1e8, latency=distance / 1e4, distance=distance
        )
    return messages.PeersKnown(found.SerializeToString())


def news(
    cluster: str,
    *,
    wanted: float,
    cpus: float = 2.0,
    number: int = 1,
    log_id: bytes = b"1",
    seconds: float = 0.1,
    measured: float = 0.0,
) -> messages.PeerLoad:
    load = peer_pb2.Load(number=number, cpus=cpus, cpus_wanted=wanted, mean_seconds=seconds)
    step = load.steps.add(
        definition="work@1", slots=cpus, queued=int(max(0, wanted - cpus)), busy=int(min(wanted, cpus)), warm=2
    )
    if measured:
        step.measured.fixed_seconds = step.measured.mean_seconds = measured
        step.measured.weight = 8.0
    return messages.PeerLoad(cluster, log_id, load.SerializeToString())


def read_all(desk: Desk, parts: int) -> Said:
    return desk.do(*(desk.part("inputs.units", index) for index in range(parts)))


def offered(said: Said) -> Counter[str]:
    return Counter(cluster for cluster, _ in said.to_peers("offer"))


def told(desk: Desk, *events: messages.Event) -> list[TellLoad]:
    actions = desk.core.handle_all(events, desk.now)
    desk.hear(actions)
    return [action for action in actions if isinstance(action, TellLoad)]


def test_units_spill_in_the_order_of_distance_as_load_rises() -> None:
    seen = []
    for parts in (2, 4, 6, 40):
        desk = desk_of(parts, prefer="distance")
        desk.do(news(NEAR, wanted=0), news(FAR, wanted=0))
        seen.append(offered(read_all(desk, parts)))
    assert seen[0] == {}
    assert set(seen[1]) == {NEAR}
    assert seen[2] == {NEAR: 2, FAR: 2}
    assert seen[3] == {NEAR: 2, FAR: 2}, "whoever is full gets no more: the rest waits here"


def test_by_finish_the_near_cluster_is_used_before_the_far_one_too() -> None:
    desk = desk_of(7)
    desk.do(news(NEAR, wanted=0), news(FAR, wanted=0))
    where = offered(read_all(desk, 7))
    assert where[NEAR] >= where[FAR]
    assert where[NEAR] > 0


def test_before_the_first_task_here_its_time_is_what_it_takes_elsewhere() -> None:
    """Else what is quick would go over a link only since nobody has measured it here yet."""
    for measured, moves in ((0.004, False), (4.0, True)):
        desk = desk_of(8)
        desk.do(news(NEAR, wanted=0, measured=measured), news(FAR, wanted=50))
        assert bool(offered(read_all(desk, 8))) is moves


def test_a_cluster_that_says_it_is_busy_gets_nothing() -> None:
    desk = desk_of(6)
    desk.do(news(NEAR, wanted=50), news(FAR, wanted=0))
    assert set(offered(read_all(desk, 6))) == {FAR}


def test_silence_never_stops_a_unit() -> None:
    for heard in ((), (news(NEAR, wanted=500), news(FAR, wanted=500))):
        desk = desk_of(20)
        desk.do(*heard)
        desk.now += 1e5  # whatever was heard is of no worth
        said = read_all(desk, 20)
        assert len(said.starts) >= 2
        assert sum(offered(said).values()) >= 5


def test_what_waits_goes_as_soon_as_another_says_that_it_has_room() -> None:
    desk = desk_of(8)
    desk.do(news(NEAR, wanted=50), news(FAR, wanted=50))
    assert offered(read_all(desk, 8)) == {}
    said = desk.do(news(NEAR, wanted=0, number=2))
    assert set(offered(said)) == {NEAR}
    assert len(said.recorded(Spilled)) == sum(offered(said).values())


def test_a_word_that_was_overtaken_is_dropped_and_one_of_a_new_life_is_not() -> None:
    desk = desk_of(8)
    desk.do(news(FAR, wanted=50), news(NEAR, wanted=50, number=7))
    read_all(desk, 8)
    assert offered(desk.do(news(NEAR, wanted=0, number=6))) == {}
    assert set(offered(desk.do(news(NEAR, wanted=0, number=1, log_id=b"2")))) == {NEAR}


def test_others_are_told_at_once_what_changes_much_and_not_often() -> None:
    desk = desk_of(200)
    first = told(desk, *(desk.part("inputs.units", index) for index in range(20)))
    assert {action.cluster for action in first} == {NEAR, FAR}
    load = peer_pb2.Load.FromString(first[0].load)
    assert load.cpus == 2
    assert load.cpus_wanted > 2
    assert [step.definition for step in load.steps] == ["work@1"]
    words = 0
    for index in range(20, 200):
        desk.now += 0.01
        words += sum(action.cluster == NEAR for action in told(desk, desk.part("inputs.units", index)))
    assert 1 <= words <= 3 + 5 * 1.8 + 1, "five a second on the mean, and three at once"


def test_a_run_whose_steps_leave_no_choice_tells_nobody_anything() -> None:
    step = Use("work", [HERE], {"rows": ("inputs.units.out", EACH)})
    desk = Desk([source("units", [HERE]), step, output(step)], {"inputs.units": {HERE: 9}}, clusters=[HERE, NEAR])
    assert told(desk, *(desk.part("inputs.units", index) for index in range(9))) == []
    assert desk.core.measured() == ([], [])


def test_what_moves_says_why() -> None:
    desk = desk_of(6)
    desk.do(news(NEAR, wanted=0), news(FAR, wanted=0))
    said = read_all(desk, 6)
    routed = [event for event in said.published if event.type == "unit.routed"]
    assert len(routed) == sum(offered(said).values()) > 0
    figures = routed[0].data["expected"]
    assert isinstance(figures, dict)
    assert set(figures) == {HERE, NEAR, FAR}
    assert figures[routed[0].data["to"]]["finish"] < figures[HERE]["finish"]


def test_tasks_teach_what_to_expect_and_the_hub_is_told() -> None:
    desk = desk_of(2)
    for task in read_all(desk, 2).starts:
        desk.now += 1.0
        desk.done(task, seconds=4.0)
    (step,) = desk.core.measured()[1]
    assert step.definition == "work@1"
    assert 3.5 <= step.mean_seconds <= 4.5
    assert step.weight > 1.5


def test_transfers_teach_what_a_link_carries_and_the_sender_is_told() -> None:
    desk = desk_of(1)
    for number in range(8):
        unit = model_pb2.Unit(id=bytes([number] * 16), digest=bytes([number] * 32), size=1000, origin=NEAR)
        place = peer_pb2.UnitLocation(cluster=NEAR, node="n1", address="n1:1")
        desk.peer(NEAR, offer=peer_pb2.Offer(edge="work.rows", unit=unit, location=place))
        desk.peer(NEAR, grant=peer_pb2.Grant(edge="work.rows", unit=unit.id))
        desk.now += 1.0
        said = desk.do(messages.FetchEnded("n1", messages.RunKey("default", "run-1"), unit.id, 10_000_000, 0.5))
    link = next(link for link in desk.core.measured()[0] if link.from_cluster == NEAR)
    assert link.to_cluster == HERE
    assert link.declared_bandwidth == 1e8
    assert 15e6 < link.bandwidth < 25e6
    (fetched,) = [event for event in said.published if event.type == "unit.fetched"]
    assert (fetched.data["from"], fetched.data["bytes"], fetched.data["seconds"]) == (NEAR, 10_000_000, 0.5)
    desk.now += 3.0
    words = [peer_pb2.Load.FromString(action.load) for action in told(desk) if action.cluster == NEAR]
    assert [15e6 < word.link.bandwidth < 25e6 for word in words] == [True]


# ------------------------------------------------------------------------------------------------------ taints


def test_a_taint_sends_what_waits_elsewhere_and_what_runs_may_end() -> None:
    desk = desk_of(6, prefer="distance")
    desk.do(news(NEAR, wanted=50), news(FAR, wanted=50))
    started = read_all(desk, 6).starts
    said = desk.do(directory(taints=("removed=",)))
    assert sum(offered(said).values()) == 0, "nobody has room"
    said = desk.do(news(NEAR, wanted=0, number=2, cpus=8))
    assert offered(said) == {NEAR: 4}
    for task in started:
        assert desk.done(task).starts == []
    assert desk.progress("work").done == len(started)


def test_a_step_that_tolerates_the_taint_goes_on() -> None:
    desk = desk_of(2, tolerates=("removed",))
    desk.do(directory(taints=("removed=",)))
    assert len(read_all(desk, 2).starts) == 2


def test_a_step_that_tolerates_the_taint_for_a_while_goes_on_so_long_and_then_passes_on_what_waits() -> None:
    desk = desk_of(6, prefer="distance", patience={"removed=": 30.0})
    desk.do(news(NEAR, wanted=50), news(FAR, wanted=50))
    started = read_all(desk, 6).starts
    desk.do(directory(taints=("removed=",)))
    assert len(desk.done(started[0]).starts) == 1, "it is tolerated still"
    said = desk.do(news(NEAR, wanted=0, number=2, cpus=1))
    assert offered(said) == {NEAR: 1}
    assert offered(desk.at(desk.now + 30.0)).total() == 2
    assert desk.done(started[1]).starts == []


def test_a_unit_that_was_sent_here_is_passed_on_once_and_never_back() -> None:
    for forwarded in (False, True):
        desk = desk_of(1, cpus=1.0)
        unit = model_pb2.Unit(id=bytes(16), digest=bytes(32), size=1000, origin=NEAR)
        place = peer_pb2.UnitLocation(cluster=NEAR, node="n1", address="n1:1")
        about = {"edge": "work.rows", "unit": unit.id}
        desk.peer(NEAR, offer=peer_pb2.Offer(edge="work.rows", unit=unit, location=place, forwarded=forwarded))
        desk.do(directory(taints=("removed=",)))
        desk.peer(NEAR, grant=peer_pb2.Grant(**about))  # type: ignore[arg-type]
        desk.fetched(unit.id)
        said = desk.do(news(NEAR, wanted=0), news(FAR, wanted=0))
        if forwarded:
            assert offered(said) == {}
            continue
        assert offered(said) == {FAR: 1}
        ((_, message),) = said.to_peers("offer")
        assert message.offer.forwarded
        desk.peer(FAR, accept=peer_pb2.Accept(**about))  # type: ignore[arg-type]
        said = desk.peer(FAR, released=peer_pb2.Released(**about))  # type: ignore[arg-type]
        assert [cluster for cluster, _ in said.to_peers("released")] == [NEAR], "its first sender may free it"
        assert said.freed() == {unit.id}
