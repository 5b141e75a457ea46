"""Units that go to other clusters and come from them."""

from __future__ import annotations

import itertools

import pytest

from bdw_fed.v1 import model_pb2, node_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.units.records import Fetched
from tests.coordinator.desk import RUN, Desk, unit_ids
from tests.coordinator.workflows import EACH, GATHER, Use, output, source

HERE, THERE, ELSEWHERE = "edge1", "cloud", "fog"
FLIGHTS_HERE = source("flights", [HERE])
FLIGHTS_THERE = source("flights", [THERE])


def sender(executors: tuple[str, ...] = (THERE,), parts: int = 1, **kwargs: object) -> Desk:
    clean = Use("clean", executors, {"rows": ("inputs.flights.out", EACH)})
    clusters = [HERE, THERE, ELSEWHERE]
    steps = [FLIGHTS_HERE, clean, output(clean)]
    return Desk(steps, {"inputs.flights": {HERE: parts}}, clusters=clusters, **kwargs)  # type: ignore[arg-type]


def receiver(ports: int = 1, others: tuple[str, ...] = (THERE,), **kwargs: object) -> Desk:
    uses = [Use(f"clean{n}", [HERE], {"rows": ("inputs.flights.out", EACH)}) for n in range(ports)]
    steps = [FLIGHTS_THERE, *uses, *(output(use, use.name) for use in uses)]
    return Desk(steps, {"inputs.flights": {THERE: 2}}, clusters=[HERE, *others], **kwargs)  # type: ignore[arg-type]


def offer(desk: Desk, edge: str = "clean0.rows", index: int = 0, address: str = "n9:1") -> peer_pb2.Offer:
    unit = desk.part("inputs.flights", index).outputs[0].unit
    message = peer_pb2.Offer(edge=edge)
    message.unit.id, message.unit.digest, message.unit.size = unit.id, unit.digest, unit.size
    message.unit.origin = THERE
    message.location.cluster, message.location.node, message.location.address = THERE, "n9", address
    return message


def word(of: peer_pb2.Offer) -> dict[str, object]:
    return {"edge": of.edge, "unit": of.unit.id}


# ------------------------------------------------------------------------------------------------- the sender's side


def test_a_unit_goes_by_offer_accept_grant_and_is_freed_when_released() -> None:
    desk = sender()
    said = desk.read("inputs.flights")
    ((cluster, message),) = said.to_peers("offer")
    assert cluster == THERE
    assert (message.epoch, message.revision) == (1, 1)
    assert message.offer.location.address == "n1:1"
    assert message.offer.unit.origin == HERE
    about = word(message.offer)
    said = desk.peer(THERE, accept=peer_pb2.Accept(**about))  # type: ignore[arg-type]
    assert len(said.to_peers("grant")) == 1
    assert desk.peer(THERE, granted=peer_pb2.Granted(**about)).freed() == set()  # type: ignore[arg-type]
    said = desk.peer(THERE, released=peer_pb2.Released(**about))  # type: ignore[arg-type]
    assert said.freed() == {message.offer.unit.id}


def test_no_word_of_a_crossing_does_anything_twice() -> None:
    desk = sender()
    ((_, message),) = desk.read("inputs.flights").to_peers("offer")
    about = word(message.offer)
    for kind, protocol in (("accept", peer_pb2.Accept), ("granted", peer_pb2.Granted), ("released", peer_pb2.Released)):
        desk.peer(THERE, **{kind: protocol(**about)})  # type: ignore[arg-type]
        before = desk.core.snapshot()
        said = desk.peer(THERE, **{kind: protocol(**about)})  # type: ignore[arg-type]
        assert said.peers == []
        assert desk.core.snapshot() == before


def test_offers_without_an_answer_are_bounded() -> None:
    desk = sender(parts=5, policy=Policy(offer_window=2))
    said = desk.do(*(desk.part("inputs.flights", index) for index in range(5)))
    offers = [message.offer for _, message in said.to_peers("offer")]
    assert len(offers) == 2
    said = desk.peer(THERE, accept=peer_pb2.Accept(**word(offers[0])))  # type: ignore[arg-type]
    assert len(said.to_peers("offer")) == 1


def test_an_offer_that_nobody_answers_is_taken_back_and_executed_here() -> None:
    desk = sender(executors=(HERE, THERE), cpus=1)
    wait = {"inputs.flights": {HERE: 4}}
    desk = Desk(
        [FLIGHTS_HERE, *sender(executors=(HERE, THERE)).steps[1:]], wait, clusters=[HERE, THERE, ELSEWHERE], cpus=1
    )
    said = desk.do(*(desk.part("inputs.flights", index) for index in range(4)))
    offers = said.to_peers("offer")
    assert offers, "the queue here is long, so some units go to the other cluster"
    assert said.wake is not None
    said = desk.at(said.wake)
    assert [message.withdraw.unit for _, message in said.to_peers("withdraw")] == [
        message.offer.unit.id for _, message in offers
    ]
    accept = peer_pb2.Accept(**word(offers[0][1].offer))  # type: ignore[arg-type]
    assert desk.peer(THERE, accept=accept).to_peers("grant") == [], "it was taken back"
    assert desk.progress("clean").waiting + desk.progress("clean").running == 4


def test_an_offer_that_nobody_else_could_take_waits_for_ever() -> None:
    desk = sender()
    said = desk.read("inputs.flights")
    for _ in range(5):
        assert said.wake is not None
        said = desk.at(said.wake)
        assert said.peers == []
    assert said.ended is None


def test_a_unit_that_is_declined_goes_to_another_cluster() -> None:
    desk = sender(executors=(THERE, ELSEWHERE))
    ((first, message),) = desk.read("inputs.flights").to_peers("offer")
    said = desk.peer(first, decline=peer_pb2.Decline(**word(message.offer)))  # type: ignore[arg-type]
    ((second, _),) = said.to_peers("offer")
    assert {first, second} == {THERE, ELSEWHERE}


def test_an_offer_survives_a_restart_and_is_not_made_twice() -> None:
    desk = sender()
    ((_, message),) = desk.read("inputs.flights").to_peers("offer")
    assert desk.restart().to_peers("offer") == []
    said = desk.peer(THERE, accept=peer_pb2.Accept(**word(message.offer)))  # type: ignore[arg-type]
    assert len(said.to_peers("grant")) == 1


def test_a_receiver_that_we_cannot_dial_is_told_where_the_unit_is_when_it_asks_for_a_push() -> None:
    desk = sender(undialled=[THERE])
    ((_, message),) = desk.read("inputs.flights").to_peers("offer")
    desk.peer(THERE, accept=peer_pb2.Accept(**word(message.offer)))  # type: ignore[arg-type]
    desk.lose()
    request = peer_pb2.PushRequest(unit=message.offer.unit)
    request.to.cluster, request.to.address = THERE, "far:1"
    assert desk.peer(THERE, push=request).to_peers("offer") == [], "nobody is there who has it"
    for said in (desk.join(units=[message.offer.unit.id]), desk.peer(THERE, push=request)):
        assert said.to_nodes("push") == []
        ((cluster, again),) = said.to_peers("offer")
        assert (cluster, again.offer.location.address) == (THERE, "n1:1")


def test_a_receiver_that_cannot_dial_has_the_bytes_pushed() -> None:
    desk = sender()
    ((_, message),) = desk.read("inputs.flights").to_peers("offer")
    about = word(message.offer)
    desk.peer(THERE, accept=peer_pb2.Accept(**about))  # type: ignore[arg-type]
    request = peer_pb2.PushRequest(unit=message.offer.unit)
    request.to.address = "far:1"
    said = desk.peer(THERE, push=request)
    ((node, push),) = said.to_nodes("push")
    assert node == "n1"
    assert isinstance(push, node_pb2.PushUnit)
    assert push.address == "far:1"
    unit = message.offer.unit.id
    assert desk.do(messages.PushEnded("n1", RUN, unit, "far:1", "connection refused")).to_nodes("push") == []
    assert len(desk.at(desk.now + 2).to_nodes("push")) == 1, "it is tried again"
    desk.lose()
    assert len(desk.join(units=[unit]).to_nodes("push")) == 1, "and said again to a node that comes back"


# ----------------------------------------------------------------------------------------------- the receiver's side


def test_a_unit_is_executed_only_after_its_grant_and_when_its_bytes_are_here() -> None:
    desk = receiver()
    message = offer(desk)
    said = desk.peer(THERE, offer=message)
    assert len(said.to_peers("accept")) == 1
    assert said.nodes == []
    said = desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    assert len(said.to_peers("granted")) == 1
    ((_, fetch),) = said.to_nodes("fetch")
    assert isinstance(fetch, node_pb2.FetchUnit)
    assert list(fetch.addresses) == ["n9:1"]
    assert fetch.from_cluster == THERE
    (task,) = desk.fetched(message.unit.id).starts
    said = desk.done(task)
    ((cluster, released),) = said.to_peers("released")
    assert cluster == THERE
    assert released.released.unit == message.unit.id
    assert said.freed() == {message.unit.id}


def test_bytes_cross_once_however_many_steps_want_them() -> None:
    desk = receiver(ports=2)
    for edge in ("clean0.rows", "clean1.rows"):
        desk.peer(THERE, offer=offer(desk, edge))
    fetches = []
    for edge in ("clean0.rows", "clean1.rows"):
        grant = peer_pb2.Grant(**word(offer(desk, edge)))  # type: ignore[arg-type]
        fetches += desk.peer(THERE, grant=grant).to_nodes("fetch")
    assert len(fetches) == 1
    assert len(desk.fetched(offer(desk).unit.id).starts) == 2


def test_what_is_damaged_here_is_fetched_again_from_whoever_granted_it() -> None:
    """It is kept there until we release it."""
    desk = receiver()
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    (task,) = desk.fetched(message.unit.id).starts
    said = desk.do(messages.UnitsDamaged("n1", RUN, (message.unit.id,)))
    ((_, fetch),) = said.to_nodes("fetch")
    assert isinstance(fetch, node_pb2.FetchUnit)
    assert list(fetch.addresses) == ["n9:1"]
    desk.failed(task, kind="data")
    desk.fetched(message.unit.id)
    assert [each.key.task for each in desk.at(desk.now + 10).starts] == [task.key.task]


def test_units_of_the_same_content_go_to_the_same_node_one_after_the_other() -> None:
    desk = receiver(nodes=["n1", "n2"])
    first, second = offer(desk, index=0), offer(desk, index=1)
    second.unit.digest = first.unit.digest
    said = []
    for message in (first, second):
        desk.peer(THERE, offer=message)
        said += desk.peer(THERE, grant=peer_pb2.Grant(**word(message))).to_nodes("fetch")  # type: ignore[arg-type]
    ((node, _),) = said
    ((again, fetch),) = desk.fetched(first.unit.id, node).to_nodes("fetch")
    assert again == node
    assert isinstance(fetch, node_pb2.FetchUnit)
    assert fetch.key.unit == second.unit.id


def test_a_unit_for_a_step_of_others_is_declined() -> None:
    desk = sender()
    said = desk.peer(THERE, offer=offer(desk, "clean.rows"))
    ((_, message),) = said.to_peers("decline")
    assert "does not execute" in message.decline.reason


def test_an_offer_that_is_taken_back_leaves_nothing_behind() -> None:
    desk = receiver()
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, withdraw=peer_pb2.Withdraw(**word(message)))  # type: ignore[arg-type]
    assert desk.peer(THERE, grant=peer_pb2.Grant(**word(message))).peers == []  # type: ignore[arg-type]
    assert desk.progress("clean0").waiting == 0


def orders(*chains: tuple[str, ...]) -> set[tuple[str, ...]]:
    """In which order words may come that each cluster says in its own order."""
    words = [word for chain in chains for word in chain]
    return {
        order
        for order in itertools.permutations(words)
        if all([word for word in order if word in chain] == list(chain) for chain in chains)
    }


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "order",
    sorted(orders(("late offer", "late withdraw"), ("offer", "grant")) | orders(("late offer",), ("offer", "grant"))),
)
def test_of_two_clusters_that_offer_a_unit_the_one_that_grants_it_has_it_whatever_the_other_says_late(
    order: tuple[str, ...], restart: bool
) -> None:
    """The link to one was cut, so that it gave the unit to the other; what it said before is heard afterwards."""
    desk = receiver(others=(THERE, ELSEWHERE))
    late, message = offer(desk), offer(desk, address="n8:1")
    message.location.cluster, message.location.node, message.forwarded = ELSEWHERE, "n8", True
    about = word(message)
    words = {
        "late offer": (THERE, {"offer": late}),
        "late withdraw": (THERE, {"withdraw": peer_pb2.Withdraw(**about)}),  # type: ignore[arg-type]
        "offer": (ELSEWHERE, {"offer": message}),
        "grant": (ELSEWHERE, {"grant": peer_pb2.Grant(**about)}),  # type: ignore[arg-type]
    }
    fetches, granted = [], []
    for each in order:
        cluster, said = words[each]
        answer = desk.peer(cluster, **said)  # type: ignore[arg-type]
        fetches += answer.to_nodes("fetch")
        granted += [to for to, _ in answer.to_peers("granted")]
        if restart and each != "grant" and not fetches:
            desk.restart()
            desk.join()
    assert granted == [ELSEWHERE]
    ((_, fetch),) = fetches
    assert isinstance(fetch, node_pb2.FetchUnit)
    assert (fetch.from_cluster, list(fetch.addresses)) == (ELSEWHERE, ["n8:1"])
    (task,) = desk.fetched(message.unit.id).starts
    said = desk.done(task)
    assert [to for to, _ in said.to_peers("released")] == [ELSEWHERE]


def test_of_two_offers_the_first_may_be_the_one_that_is_taken_back_and_then_nothing_is_left() -> None:
    desk = receiver(others=(THERE, ELSEWHERE))
    message = offer(desk)
    for cluster in (THERE, ELSEWHERE):
        assert [to for to, _ in desk.peer(cluster, offer=message).to_peers("accept")] == [cluster]
    for cluster in (THERE, ELSEWHERE):
        desk.peer(cluster, withdraw=peer_pb2.Withdraw(**word(message)))  # type: ignore[arg-type]
    assert desk.peer(ELSEWHERE, grant=peer_pb2.Grant(**word(message))).peers == []  # type: ignore[arg-type]
    assert desk.progress("clean0").waiting == 0


def test_a_unit_that_was_offered_before_its_node_was_there_is_fetched_once_we_know_where_it_is() -> None:
    desk = receiver()
    nowhere = offer(desk, address="")
    desk.peer(THERE, offer=nowhere)
    said = desk.peer(THERE, grant=peer_pb2.Grant(**word(nowhere)))  # type: ignore[arg-type]
    assert said.to_nodes("fetch") == []
    assert len(said.to_peers("push")) == 1, "its sender is asked for it"
    said = desk.peer(THERE, offer=offer(desk))
    ((_, fetch),) = said.to_nodes("fetch")
    assert isinstance(fetch, node_pb2.FetchUnit)
    assert list(fetch.addresses) == ["n9:1"]
    assert desk.peer(THERE, offer=offer(desk)).to_nodes("fetch") == [], "it is on its way"
    assert len(desk.fetched(nowhere.unit.id).starts) == 1


def test_where_we_cannot_dial_the_node_expects_the_unit_and_the_sender_is_asked_to_push() -> None:
    desk = receiver(undialled=[THERE])
    message = offer(desk)
    desk.peer(THERE, offer=message)
    said = desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    assert len(said.to_nodes("expect")) == 1
    ((_, push),) = said.to_peers("push")
    assert push.push.to.address == "n1:1"
    assert len(desk.fetched(message.unit.id).starts) == 1


def test_a_fetch_that_fails_is_tried_again_after_a_growing_wait() -> None:
    desk = receiver()
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    waits = []
    for _ in range(3):
        said = desk.fetched(message.unit.id, error="connection refused")
        assert said.wake is not None
        waits.append(said.wake - desk.now)
        assert len(desk.at(said.wake).to_nodes("fetch")) == 1
    assert waits == sorted(waits)
    assert waits[0] < waits[2]


def test_bytes_that_are_gone_at_the_sender_are_asked_for_and_fetched_from_where_they_are_made_again() -> None:
    desk = receiver()
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    said = desk.fetched(message.unit.id, error="404", gone=True)
    ((cluster, lost),) = said.to_peers("unavailable")
    assert (cluster, lost.unavailable.unit) == (THERE, message.unit.id)
    said = desk.peer(THERE, offer=offer(desk, address="n8:1"))
    assert said.to_peers("accept") == []
    ((_, fetch),) = said.to_nodes("fetch")
    assert isinstance(fetch, node_pb2.FetchUnit)
    assert list(fetch.addresses) == ["n8:1"]


def test_a_crossing_to_a_node_that_stays_away_goes_to_another_node() -> None:
    desk = receiver(nodes=["n1", "n2"])
    message = offer(desk)
    desk.peer(THERE, offer=message)
    ((first, _),) = desk.peer(THERE, grant=peer_pb2.Grant(**word(message))).to_nodes("fetch")  # type: ignore[arg-type]
    desk.lose(first)
    ((second, _),) = desk.at(desk.now + 6).to_nodes("fetch")
    assert second != first


def test_a_restart_does_not_move_a_crossing_to_another_node() -> None:
    desk = receiver(nodes=["n1", "n2"])
    message = offer(desk)
    desk.peer(THERE, offer=message)
    ((first, _),) = desk.peer(THERE, grant=peer_pb2.Grant(**word(message))).to_nodes("fetch")  # type: ignore[arg-type]
    other = "n2" if first == "n1" else "n1"
    desk.restart()
    assert desk.join(other).to_nodes("fetch") == []
    ((again, _),) = desk.join(first, fetching=[message.unit.id]).to_nodes("fetch")
    assert again == first
    assert len(desk.fetched(message.unit.id, first).recorded(Fetched)) == 1


def test_a_grant_that_comes_before_any_node_waits_for_the_first() -> None:
    desk = receiver(nodes=[])
    message = offer(desk)
    desk.peer(THERE, offer=message)
    assert desk.peer(THERE, grant=peer_pb2.Grant(**word(message))).nodes == []  # type: ignore[arg-type]
    assert len(desk.join().to_nodes("fetch")) == 1


def test_what_crossed_is_told_as_traffic() -> None:
    desk = receiver()
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    desk.fetched(message.unit.id)
    assert list(desk.status().traffic) == [
        model_pb2.LinkTraffic(from_cluster=THERE, to_cluster=HERE, units=1, bytes=1000, seconds=0.1)
    ]


def test_the_origin_of_gathered_units_is_kept_only_if_they_share_it() -> None:
    report = Use("report", [HERE], {"parts": ("inputs.flights.out", GATHER)})
    publish = Use("publish", [THERE], {"report": ("report.out", EACH)})
    for places, origin in (({HERE: 2}, HERE), ({HERE: 1, THERE: 1}, "")):
        flights = source("flights", list(places))
        desk = Desk([flights, report, publish, output(publish)], {"inputs.flights": places}, clusters=[HERE, THERE])
        said = desk.read("inputs.flights", 0)
        if THERE in places:
            message = offer(desk, "report.parts", index=1)
            closed = peer_pb2.StepReport(step="inputs.flights", source_done=True)
            closed.produced["out"].count = 1
            closed.produced["out"].sum = message.unit.id
            desk.peer(THERE, offer=message)
            desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
            desk.fetched(message.unit.id)
            said = desk.peer(THERE, report=closed)
        else:
            said = desk.read("inputs.flights", 1)
        (task,) = said.starts
        assert len(unit_ids(task, "parts")) == 2
        ((_, sent),) = desk.done(task).to_peers("offer")
        assert sent.offer.unit.origin == origin


def test_a_push_that_never_comes_is_asked_for_again() -> None:
    desk = receiver(undialled=[THERE])
    message = offer(desk)
    desk.peer(THERE, offer=message)
    said = desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    assert said.wake is not None
    said = desk.at(said.wake)
    assert len(said.to_peers("push")) == 1
    assert len(said.to_nodes("expect")) == 1


def test_after_a_restart_a_node_that_waits_for_a_push_is_told_again_what_to_expect() -> None:
    """The unit may have been made anew meanwhile, and the sender asked by an agent that is gone."""
    desk = receiver(undialled=[THERE])
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    message.unit.digest, message.unit.generation = b"\7" * 32, 1
    desk.peer(THERE, offer=message)
    desk.restart()
    desk.know_peers()
    said = desk.join(fetching=[message.unit.id])
    ((_, expected),) = said.to_nodes("expect")
    assert expected.unit.digest == message.unit.digest
    assert len(said.to_peers("push")) == 1
