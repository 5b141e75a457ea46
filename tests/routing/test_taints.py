"""Whichever clusters must not begin anything for a while, each unit is consumed once and nothing is left behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import federation_pb2
from cluster_agent.coordinator.messages import PeersKnown
from tests.coordinator.desk import Desk
from tests.coordinator.federation import Faults
from tests.coordinator.test_federation import finish, run_random
from tests.coordinator.workflows import EACH, Use, output, source
from tests.settings import few


@few
@given(st.integers(0, 2**32))
def test_what_waits_is_passed_on_and_what_is_passed_on_is_released(seed: int) -> None:
    federation = run_random(seed, Faults(taint=0.05))
    federation.check_succeeded()
    federation.check_freed()


@few
@given(st.integers(0, 2**32))
def test_also_while_agents_and_nodes_are_killed(seed: int) -> None:
    faults = Faults(taint=0.03, crash=0.05, node_restart=0.02, stream_breaks=0.02, repeats=0.1, cut=0.02)
    federation = run_random(seed, faults)
    federation.check_succeeded()
    finish(federation)


def test_a_cluster_that_is_drained_gives_away_what_others_may_execute_and_finishes_the_rest() -> None:
    data = source("data", ["edge1"])
    free = Use("free", ["edge1", "edge2"], {"rows": ("inputs.data.out", EACH)}, counter="edge1")
    bound = Use("bound", ["edge1"], {"rows": ("inputs.data.out", EACH)})
    steps = [data, free, bound, output(free), output(bound, "other")]
    desk = Desk(steps, {"inputs.data": {"edge1": 1}}, clusters=["edge1", "edge2"])
    directory = federation_pb2.PeerDirectory(no_execute=["draining="])
    directory.peers.add(cluster="edge2", can_dial=True, reachable=True, bandwidth=1e8, latency=0.001)
    desk.do(PeersKnown(directory.SerializeToString()))
    said = desk.read("inputs.data")
    assert [task.step for task in said.starts] == ["bound"]
    assert [message.offer.edge for _, message in said.to_peers("offer")] == ["free.rows"]
