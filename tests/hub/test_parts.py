"""What of the agents' side needs no connection: liveness, questions, the directory, what is learned of runs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.directory import StoredTopology, directory
from control_plane.federation.errors import AgentUnreachable
from control_plane.federation.liveness import Liveness
from control_plane.federation.queries import Queries
from control_plane.runs.measuring import added, observed
from tests.hub.objects import TOPOLOGY
from topology.model import Topology
from workflow.load import load


def test_an_agent_whose_heartbeats_come_is_never_silent_between_them() -> None:
    """Else a run whose `lost_after` is shorter than they are apart begins again for ever."""
    liveness = Liveness(2.0)
    assert liveness.silence("edge", 0.0) is None
    liveness.heard("edge", 10.0)
    assert liveness.silence("edge", 15.9) == 0.0
    assert liveness.silence("edge", 16.0) == 6.0
    liveness.heard("edge", 20.0)
    liveness.broken("edge")
    assert liveness.silence("edge", 20.5) == 0.5


def test_an_agent_is_ready_while_it_is_heard_and_unknown_after_long_silence() -> None:
    liveness = Liveness(1.0)
    assert liveness.state("edge", 0.0) == "never-seen"
    liveness.heard("edge", 10.0)
    assert [liveness.state("edge", now) for now in (10.0, 12.9, 13.0, 21.9, 22.0)] == [
        "ready",
        "ready",
        "not-ready",
        "not-ready",
        "unknown",
    ]
    liveness.heard("edge", 30.0)
    liveness.broken("edge")
    assert liveness.state("edge", 30.1) == "not-ready"
    liveness.known("edge", 50.0)  # what an earlier hub knew does not make up for silence
    assert liveness.state("edge", 50.0) == "unknown"


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=10), st.floats(0, 200))
def test_no_state_changes_before_the_next_change(words: list[tuple[float, bool]], now: float) -> None:
    liveness = Liveness(2.0)
    for at, broken in sorted(words):
        liveness.heard("edge", at)
        if broken:
            liveness.broken("edge")
    change = liveness.next_change(now)
    state = liveness.state("edge", now)
    assert liveness.state("edge", (change if change is not None else 1e6) - 1e-6) == state or (
        change is not None and change - 1e-6 < now
    )


def reply(number: int, data: bytes = b"", *, end: bool = False) -> f.QueryReply:
    return f.QueryReply(id=number, logs=cp.LogsResponse(data=data), end=end)


async def test_a_slow_reader_is_told_how_much_was_left_out() -> None:
    sent: list[f.SessionResponse] = []
    queries = Queries("edge", sent.append)
    async with aclosing(queries.ask(f.Query(logs=cp.LogsRequest(run="r")))) as replies:
        first = asyncio.ensure_future(anext(replies))
        await asyncio.sleep(0)
        number = sent[0].query.id
        for _ in range(2000):
            queries.replied(reply(number, b"12345"))
        queries.replied(reply(number, end=True))
        got = [await first] + [each async for each in replies]
    assert got[-1].end
    whole = sum(len(each.logs.data) + each.logs.left_out for each in got)
    assert whole == 2000 * 5
    assert any(each.logs.left_out for each in got)
    assert len(sent) == 1  # it was answered to the end: nothing is left to cancel


async def test_a_question_ends_with_its_session() -> None:
    sent: list[f.SessionResponse] = []
    queries = Queries("edge", sent.append)
    asked = asyncio.ensure_future(anext(queries.ask(f.Query())))
    await asyncio.sleep(0)
    queries.close()
    with pytest.raises(AgentUnreachable):
        await asked
    with pytest.raises(AgentUnreachable):
        await anext(queries.ask(f.Query()))
    queries.replied(reply(1))  # nobody waits: dropped


def stored(text: str) -> StoredTopology:
    model = load(text).documents[0].model
    assert isinstance(model, Topology)
    return StoredTopology.of(model, 3)


def test_a_directory_says_who_dials_whom_and_whom_no_link_leads_to() -> None:
    more = TOPOLOGY.replace("{name: there, tier: cloud}]", "{name: there, tier: cloud}, {name: moon, tier: fog}]")
    more = more.replace("  links:", "    - {name: far, zone: moon}\n    - {name: near, zone: here}\n  links:")
    found = directory("edge", [stored(more)], {"cloud": "c:1", "edge": "e:1"})
    assert found.topology_revision == 3
    cloud, far, near = found.peers
    assert (cloud.cluster, cloud.gateway_address, cloud.can_dial, cloud.can_be_dialled) == ("cloud", "c:1", True, False)
    assert (far.cluster, far.reachable, far.can_dial) == ("far", False, False)
    assert (near.cluster, near.distance, near.can_dial, near.can_be_dialled) == ("near", 0.0, True, True)
    assert not directory("stranger", [stored(more)], {}).peers
    assert not any(peer.trusted for peer in found.peers)
    private = directory("edge", [stored(more.replace("dial: here", "dial: here, trusted: true"))], {})
    assert [peer.trusted for peer in private.peers] == [True, False, False]


def test_what_a_step_makes_is_held_against_what_drives_it() -> None:
    steps = [
        m.Step(name="inputs.rows"),
        m.Step(
            name="join",
            definition="join@1",
            inputs=[
                m.InputPort(name="rows", from_step="inputs.rows", pairing=m.PAIRING_EACH),
                m.InputPort(name="names", from_step="inputs.names", pairing=m.PAIRING_SAME_CLUSTER),
            ],
        ),
    ]
    run = m.Run()
    for cluster in ("a", "b"):
        run.fragments[cluster].steps.add(step="inputs.rows", done=1, bytes_out=100)
        run.fragments[cluster].steps.add(step="inputs.names", done=1, bytes_out=7000)
        run.fragments[cluster].steps.add(step="join", done=5, bytes_in=35100, bytes_out=25, busy_seconds=2.5)
    found = observed(steps, run)
    assert set(found) == {"join@1"}
    assert (found["join@1"].bytes_in, found["join@1"].bytes_out) == (200, 50)
    assert (found["join@1"].tasks, found["join@1"].busy_seconds) == (10, 5.0)
    twice = added(added(None, found["join@1"]), found["join@1"])
    assert (twice.tasks, twice.bytes_out) == (20, 100)
    twice.tasks = 1e6
    assert added(twice, found["join@1"]).tasks == 500_010
