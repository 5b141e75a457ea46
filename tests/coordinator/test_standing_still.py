"""What counts as moving of a run that a quota bounds, on one cluster and between them: else it would wait for ever."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.actions import TellLoad
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.space import footprint, moving
from tests.coordinator.desk import RUN, RUNNING, Desk, made
from tests.coordinator.test_crossing import offer, word
from tests.coordinator.test_quotas import HASTY, PART, federation
from tests.coordinator.workflows import EACH, GATHER, GROUP, Use, fragments, output, source, split
from tests.fixtures import words
from wire.digests import source_task_id

HERE, THERE = "edge1", "cloud"
MINUTE = 60.0
QUOTA = model_pb2.Policy(quota=1_000_000)
URGENT = model_pb2.Policy(priority=5)
STRICT = model_pb2.Policy(quota=2 * PART - 1)


def rests(desk: Desk) -> bool:
    """Whether others were told that the run rests here, a minute after anything was done at all."""
    for _ in range(5):
        desk.at(desk.now + MINUTE / 4)
    return RUN in desk.core._book.resting


def test_splits_that_wait_for_a_slot_which_splits_have_that_wait_for_room_do_not_move() -> None:
    made = federation({HERE: {"n1": 1.0}}, 500, HASTY)
    data = source("data", [HERE])
    cut = split(data)  # each takes the whole node
    report = Use("report", [HERE], {"parts": (f"{cut.name}.out", GATHER)})
    made.units_in = {cut.name: 6}
    made.submit([data, cut, report, output(report)], {data.name: {HERE: 2}})
    made.run(most=20_000)
    made.check_failed()


def test_a_part_is_as_large_as_those_before_it_also_where_its_units_are_counted_for_each_cluster_beside() -> None:
    """A window has room for one and a half, so the split waits for what its node tells to be read."""
    made = federation({HERE: {"n1": 2.0}}, 600, HASTY)
    data = source("data", [HERE])
    cut = split(data)
    beside = Use("beside", [HERE], {"rows": (f"{cut.name}.out", GROUP)})
    beside.group_by = "{key}-*.csv"
    made.units_in = {cut.name: 12}
    made.submit([data, cut, beside, output(beside)], {data.name: {HERE: 1}})
    made.run(most=20_000)
    made.check_failed()


def test_who_has_done_its_part_says_so_to_those_with_whom_the_run_rests() -> None:
    """They don't hear that steps have closed which have nothing to do with them, and would wait for it."""
    data = source("data", [HERE])
    keep = Use("keep", [THERE], {"rows": (f"{data.name}.out", EACH)})
    desk = Desk([data, keep, output(keep)], {data.name: {HERE: 1}}, clusters=[HERE, THERE], run_policy=QUOTA)
    load = peer_pb2.Load(number=1, resting=["default/run-1"]).SerializeToString()

    def answers() -> list[list[str]]:
        actions = desk.core.handle(messages.PeerLoad(THERE, b"log", load), desk.now)
        told = [action for action in actions if isinstance(action, TellLoad)]
        return [list(peer_pb2.Load.FromString(each.load).ended) for each in told]

    ((_, message),) = desk.read(data.name).to_peers("offer")
    assert answers() == [], "it goes on here"
    desk.peer(THERE, accept=peer_pb2.Accept(**word(message.offer)))  # type: ignore[arg-type]
    said = desk.peer(THERE, released=peer_pb2.Released(**word(message.offer)))  # type: ignore[arg-type]
    assert said.ended is not None
    assert answers() == [["default/run-1"]]


def test_who_waits_to_be_pushed_a_unit_rests_and_who_has_it_to_push_does_not() -> None:
    there, here = source("flights", [THERE]), source("flights", [HERE])
    clean = Use("clean0", [HERE], {"rows": (f"{there.name}.out", EACH)})
    receiver = Desk(
        [there, clean, output(clean)],
        {there.name: {THERE: 1}},
        clusters=[HERE, THERE],
        run_policy=QUOTA,
        undialled=[THERE],
    )
    message = offer(receiver)
    receiver.peer(THERE, offer=message)
    receiver.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    assert rests(receiver)

    clean = Use("clean0", [THERE], {"rows": (f"{here.name}.out", EACH)})
    sender = Desk(
        [here, clean, output(clean)], {here.name: {HERE: 1}}, clusters=[HERE, THERE], run_policy=QUOTA, nodes=["n1"]
    )
    ((_, said),) = sender.read(here.name).to_peers("offer")
    sender.peer(THERE, accept=peer_pb2.Accept(**word(said.offer)))  # type: ignore[arg-type]
    request = peer_pb2.PushRequest(unit=said.offer.unit)
    request.to.cluster, request.to.node, request.to.address = THERE, "n9", "n9:1"
    sender.peer(THERE, push=request)
    assert not rests(sender)
    sender.do(messages.PushEnded("n1", RUN, said.offer.unit.id, "n9:1"))
    assert rests(sender)


def test_asking_again_for_a_unit_that_its_sender_has_not_got_is_no_movement() -> None:
    there = source("flights", [THERE])
    clean = Use("clean0", [HERE], {"rows": (f"{there.name}.out", EACH)})
    desk = Desk([there, clean, output(clean)], {there.name: {THERE: 1}}, clusters=[HERE, THERE], run_policy=QUOTA)
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    assert not rests(desk), "a node is at it"
    desk.fetched(message.unit.id, error="not found", gone=True)
    assert rests(desk), "the node was told again meanwhile"
    desk.fetched(message.unit.id, error="not found", gone=True)
    assert RUN in desk.core._book.resting
    desk.peer(THERE, offer=message)
    assert RUN not in desk.core._book.resting, "it is there again"


def test_a_split_that_was_stopped_half_way_begins_again_where_another_cluster_waits_for_what_it_had_made() -> None:
    data = source("data", [HERE])
    cut = split(data)
    keep = Use("keep", [THERE], {"rows": (f"{cut.name}.out", EACH)})
    desk = Desk([data, cut, keep, output(keep)], {data.name: {HERE: 2}}, clusters=[HERE, THERE], run_policy=STRICT)
    (first,) = desk.read(data.name, 0).starts
    (second,) = desk.read(data.name, 1).starts
    part = made(first.key.task, "out", 0, PART)
    said = desk.do(messages.NodeSaid("n1", words.produced(RUN, first.key.task, 1, (part,))))
    ((_, message),) = said.to_peers("offer")
    other = made(second.key.task, "out", 0, PART)
    desk.do(messages.NodeSaid("n1", words.produced(RUN, second.key.task, 1, (other,))))
    desk.peer(THERE, accept=peer_pb2.Accept(**word(message.offer)))  # type: ignore[arg-type]
    files = [unit.id for task in (first, second) for port in task.inputs for unit in port.units]
    desk.lose()
    desk.join(process=b"2", running=[second], units=[*files, other.unit.id])
    starts = [start for _ in range(20) for start in desk.at(desk.now + 1.0).starts]
    assert first.key.task in [start.key.task for start in starts]


def test_what_a_quota_held_back_and_others_have_all_slots_since_waits_for_its_turn() -> None:
    """It is not taken to stand still, however long the tasks of the other run last."""
    data = source("data", [HERE])
    keep = Use("keep", [HERE], {"rows": (f"{data.name}.out", EACH)})
    grow = Use("grow", [HERE], {"rows": ("keep.out", EACH)})
    desk = Desk([data, keep, grow, output(grow)], {data.name: {HERE: 2}}, run_policy=model_pb2.Policy(quota=2_500))
    (first,) = desk.read(data.name, 0).starts
    (growing,) = desk.done(first).starts
    assert desk.read(data.name, 1).starts == [], "the quota has no room for it beside"
    other = fragments([data, keep, output(keep)], {data.name: {HERE: 2}}, [HERE], run="run-2", policy=URGENT)[HERE]
    desk.do(messages.FragmentAssigned(other, RUNNING))
    for index in range(2):
        part = made(source_task_id("default", "run-2", data.name, index), "out", 0, 10)
        desk.do(messages.SourceRead("n1", RunKey("default", "run-2"), data.name, index, (part,), asked=True))
    assert len(desk.done(growing, size=10).starts) == 1
    assert desk.core._book.lives[RUN].waiting, "the other run was first"
    rests(desk)
    assert desk.core._book.lives[RUN].going


def test_who_waits_for_a_quota_no_more_since_another_cluster_does_it_does_not_stand_still() -> None:
    """All of its waiting tasks have gone there, and are done; what is still going on there takes long."""
    data = source("data", [HERE])
    keep = Use("keep", [HERE, THERE], {"rows": (f"{data.name}.out", EACH)})
    grow = Use("grow", [HERE], {"rows": ("keep.out", EACH)})
    desk = Desk(
        [data, keep, grow, output(grow)],
        {data.name: {HERE: 2}},
        clusters=[HERE, THERE],
        run_policy=model_pb2.Policy(quota=2_500),
    )
    (first,) = desk.read(data.name, 0).starts
    (growing,) = desk.done(first).starts
    desk.read(data.name, 1)
    idle = peer_pb2.Load(number=1, cpus=8.0, steps=[peer_pb2.StepLoad(definition="keep@1", slots=8.0, warm=8)])
    said = desk.do(messages.PeerLoad(THERE, b"log", idle.SerializeToString()))
    ((_, message),) = said.to_peers("offer")
    desk.done(growing)
    desk.peer(THERE, accept=peer_pb2.Accept(**word(message.offer)))  # type: ignore[arg-type]
    desk.peer(THERE, released=peer_pb2.Released(**word(message.offer)))  # type: ignore[arg-type]
    assert rests(desk)
    assert desk.core._book.lives[RUN].going


def test_an_attempt_that_is_due_again_for_which_a_unit_must_be_made_first_does_not_move_the_run() -> None:
    """Its turn has come, and brought nothing: whether the unit is made is another question."""
    data = source("data", [HERE])
    keep = Use("keep", [HERE], {"rows": (f"{data.name}.out", EACH)})
    grow = Use("grow", [HERE], {"rows": ("keep.out", EACH)})
    desk = Desk([data, keep, grow, output(grow)], {data.name: {HERE: 1}}, nodes=["n1", "n2"])
    (first,) = desk.read(data.name).starts
    (growing,) = desk.done(first).starts

    def goes_on() -> bool:
        book = desk.core._book
        return moving.goes_on(book, book.lives[RUN], book.lives[RUN].run.tasks[growing.key.task])

    desk.failed(growing)
    assert goes_on(), "it is tried again soon"
    desk.lose()
    for _ in range(3):
        desk.at(desk.now + 1.0)
    assert list(desk.core._book.lives[RUN].parked.values()) == [[growing.key.task]]
    assert not goes_on()


def test_a_task_whose_input_must_be_made_again_first_is_not_at_work_and_holds_nobody_back() -> None:
    """What makes the input may wait for more room than there is beside others, and would wait for that task to end."""
    data = source("data", [HERE])
    keep = Use("keep", [HERE], {"rows": (f"{data.name}.out", EACH)})
    grow = Use("grow", [HERE], {"rows": ("keep.out", EACH)})
    grow.cpus = 2.0
    desk = Desk([data, keep, grow, output(grow)], {data.name: {HERE: 2}}, nodes=["n1", "n2"])
    keeping = [start for index in range(2) for start in desk.read(data.name, index).starts]
    desk.do(*(desk.result(each) for each in keeping))
    live = desk.core._book.lives[RUN]
    (fetch,) = live.fetches.values()
    assert (fetch.node, footprint.stranded(live)) == ("n2", set())
    desk.lose()
    desk.join(process=b"2")
    desk.fetched(fetch.unit, "n2", error="not found", gone=True)
    assert footprint.stranded(live) == {*fetch.tasks}
    assert not footprint.is_at_work(live)
