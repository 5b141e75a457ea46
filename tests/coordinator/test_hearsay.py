"""What a task has made is told to whoever gets a unit of it, and believed once all of it was told."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.cache import hearsay, remembering
from cluster_agent.coordinator.state import Known
from tests.coordinator.desk import RUN, Desk
from tests.coordinator.workflows import EACH, Use, output, source
from tests.fixtures import words

HERE, THERE, FURTHER = "edge1", "cloud", "fog"
MANY = 40


def desk(cluster: str, *, replace: bool = True) -> Desk:
    """Units of a step on one cluster go to steps on two others."""
    data = source("data", [HERE])
    make = Use("make", [HERE], {"rows": (f"{data.name}.out", EACH)}, pinned=True)
    uses = [Use(f"use-{there}", [there], {"rows": ("make.out", EACH)}, pinned=True) for there in (THERE, FURTHER)]
    steps = [data, make, *uses, *(output(use, use.name) for use in uses)]
    others = [each for each in (HERE, THERE, FURTHER) if each != cluster]
    return Desk(
        steps,
        {data.name: {HERE: 1}},
        clusters=[cluster, *others],
        run_policy=model_pb2.Policy(replace=replace),
        policy=Policy(offer_window=1_000),
    )


def made_here(sender: Desk, count: int) -> tuple[words.Task, dict[str, list[peer_pb2.PeerMessage]]]:
    """A task that has made so many units, and the offers of them to each cluster."""
    (task,) = sender.read("inputs.data").starts
    offers: dict[str, list[peer_pb2.PeerMessage]] = {}
    for cluster, message in sender.done(task, count=count).to_peers("offer"):
        offers.setdefault(cluster, []).append(message)
    return task, offers


def known(receiver: Desk, task: words.Task) -> Known | None:
    """What the receiver would know of the task if the run began again."""
    return remembering.remembered(receiver.core._book.lives[RUN]).get(task.key.task)


def test_a_few_units_are_told_with_each_offer() -> None:
    task, offers = made_here(desk(HERE), 3)
    assert [len(message.offer.made.outputs) for message in offers[THERE]] == [3, 3, 3]
    receiver = desk(THERE)
    receiver.peer(HERE, offer=offers[THERE][2].offer)
    entry = known(receiver, task)
    assert entry is not None
    assert len(entry.outputs) == 3


def test_many_units_are_told_to_each_cluster_once_and_no_offer_grows_with_them() -> None:
    task, offers = made_here(desk(HERE), MANY)
    for cluster in (THERE, FURTHER):
        told = [message.offer.made for message in offers[cluster]]
        assert max(len(made.outputs) for made in told) <= 16
        assert [each.index for made in told for each in made.outputs] == list(range(MANY))
        receiver = desk(cluster)
        believed = []
        for message in offers[cluster]:
            receiver.peer(HERE, offer=message.offer)
            believed.append(known(receiver, task) is not None)
        assert believed == [False, False] + [True] * (MANY - 2), "once all of it was told, and not before"
        entry = known(receiver, task)
        assert entry is not None
        assert [each.unit.id for each in entry.outputs] == [message.offer.unit.id for message in offers[cluster]]
        restored = desk(cluster)
        restored.core.restore(receiver.core.snapshot())
        assert known(restored, task) == entry


def test_a_list_that_is_told_once_more_or_with_a_gap_does_no_harm() -> None:
    task, offers = made_here(desk(HERE), MANY)
    first, second, third, *_ = (message.offer for message in offers[THERE])
    receiver = desk(THERE)
    receiver.peer(HERE, offer=second)
    receiver.peer(HERE, offer=third)
    assert known(receiver, task) is None, "its beginning was not heard"
    for offer in (first, first, third, second, first, third):
        receiver.peer(HERE, offer=offer)
    entry = known(receiver, task)
    assert entry is not None
    assert [each.index for each in entry.outputs] == list(range(MANY))


def test_after_a_restart_a_list_is_told_from_its_beginning() -> None:
    sender = desk(HERE)
    task, _ = made_here(sender, MANY)
    sender.restart()
    said = sender.join(units=[unit.id for unit in sender.core._book.lives[RUN].run.units.values()])
    live = sender.core._book.lives[RUN]
    units = [live.run.units[unit] for unit in live.run.tasks[task.key.task].outputs]
    assert not said.to_peers("offer"), "the peers have these"
    told = [hearsay.told(live, unit, THERE) for unit in units]
    assert [each.first for each in told if each is not None] == [0, 16, 32]


def test_nothing_is_told_where_the_run_is_not_to_begin_again() -> None:
    _, offers = made_here(desk(HERE, replace=False), MANY)
    assert not any(message.offer.HasField("made") for messages in offers.values() for message in messages)
