"""How an agent answers an order to reserve: once, for good, and for no longer than its time to live."""

from __future__ import annotations

from bdw_fed.v1 import federation_pb2, model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import Place, RunKey
from tests.coordinator.workflows import EACH, Use, fragments, output, source

RESERVED = model_pb2.DESIRED_STATE_RESERVED
RUNNING = model_pb2.DESIRED_STATE_RUNNING
FORGOTTEN = model_pb2.DESIRED_STATE_FORGOTTEN


def order(
    run: str, *, epoch: int = 1, desired: int = RESERVED, slots: int = 2, seconds: float = 10.0
) -> messages.FragmentAssigned:
    """All of a node of two cpus, unless said otherwise."""
    work = Use("work", ["edge1"], {"rows": ("inputs.rows.out", EACH)})
    steps = [source("rows", ["edge1"]), work, output(work)]
    fragment = fragments(steps, {"inputs.rows": {"edge1": 3}}, ["edge1"], run=run, epoch=epoch)["edge1"]
    proto = model_pb2.Fragment.FromString(fragment)
    proto.policy.reserve = "hold"
    proto.steps[1].executors[0].slots = slots
    return messages.FragmentAssigned(proto.SerializeToString(), desired, seconds)


class Agent:
    """A coordinator with one node of two cpus; what it says to the hub is kept."""

    def __init__(self) -> None:
        self.core = Coordinator("edge1")
        self.now = 10.0
        self.do(messages.NodeJoined("n1", b"1", 2.0, 1 << 30, Place("edge1", "n1", "n1:1")))

    def do(self, *events: messages.Event) -> list[tuple[str, str]]:
        """(kind, reason) of each word to the hub; the reason "" of an answer is yes."""
        said = []
        for action in self.core.handle_all(events, self.now):
            if isinstance(action, SendHub):
                answer = federation_pb2.ReservationAnswer()
                if action.kind == "reservation":
                    answer.ParseFromString(action.message)
                    assert answer.reserved == (not answer.reason)
                said.append((action.kind, answer.reason))
        return said

    def at(self, now: float) -> list[tuple[str, str]]:
        self.now = now
        return self.do(messages.Tick())

    def forget(self, run: str) -> list[tuple[str, str]]:
        return self.do(messages.DesiredChanged(RunKey("default", run), FORGOTTEN))

    def holders(self) -> dict[str, bool]:
        """Run -> whether what it holds is a half."""
        return {each.run: each.half for each in self.core.reserved()}


def test_an_order_that_comes_again_gets_the_same_answer_and_no_more_time() -> None:
    agent = Agent()
    assert agent.do(order("a")) == [("reservation", "")]
    agent.now = 15.0
    assert agent.do(order("a")) == [("reservation", "")]
    assert agent.holders() == {"a": True}
    agent.at(20.0)
    assert agent.holders() == {}
    ((kind, reason),) = agent.do(order("a"))
    assert (kind, "time to live" in reason) == ("reservation", True)
    assert agent.holders() == {}, "an order whose time is over holds nothing again"
    assert agent.do(order("a", epoch=2)) == [("reservation", "")], "a new one does"


def test_a_denial_says_who_holds_what_and_the_hub_hears_once_when_there_is_room() -> None:
    agent = Agent()
    agent.do(order("a"))
    ((_, reason),) = agent.do(order("b", slots=1))
    assert reason == "edge1 lacks slots for 1 of work: run a holds 2 of work"
    assert agent.forget("b") == [], "who was denied held nothing"
    assert agent.forget("a") == [("freed", "")]
    agent.do(order("c", slots=1))
    assert agent.forget("c") == [], "nobody was denied since"


def test_a_commit_makes_the_half_whole_and_its_end_frees_it() -> None:
    agent = Agent()
    agent.do(order("a"))
    agent.do(order("a", desired=RUNNING))
    assert agent.holders() == {"a": False}
    agent.at(100.0)
    assert agent.holders() == {"a": False}, "no time to live any more"
    agent.do(messages.DesiredChanged(RunKey("default", "a"), model_pb2.DESIRED_STATE_CANCELLED))
    assert agent.holders() == {}


def test_a_commit_that_comes_after_the_time_to_live_counts_all_the_same() -> None:
    agent = Agent()
    agent.do(order("a"))
    agent.at(20.0)
    agent.do(order("a", desired=RUNNING))
    assert agent.holders() == {"a": False}


def test_a_newer_epoch_takes_the_place_of_an_older_one() -> None:
    agent = Agent()
    agent.do(order("a", slots=2))
    assert agent.do(order("a", epoch=2, slots=1)) == [("reservation", "")]
    (held,) = agent.core.reserved()
    assert held.held == 1
    assert agent.do(order("a", epoch=1)) == [], "what is older is no order any more"


def test_a_cluster_without_nodes_denies_and_says_so_when_one_has_come() -> None:
    core = Coordinator("edge1")
    agent = Agent.__new__(Agent)
    agent.core, agent.now = core, 10.0
    assert agent.do(order("a")) == [("reservation", "no node of edge1 is there")]
    joined = messages.NodeJoined("n1", b"1", 2.0, 1 << 30, Place("edge1", "n1", "n1:1"))
    assert agent.do(joined) == [("freed", "")]
