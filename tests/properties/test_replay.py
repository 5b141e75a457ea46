"""What a coordinator does follows from what it is told, and from nothing else; and a log means what it meant."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.core import Coordinator
from simulator.audit import audit
from tests.coordinator.federation import Faults
from tests.properties.recording import RECORDED, Recorded
from tests.properties.worlds import RecordedCoordinator, World
from tests.settings import few
from wire.digests import bytes_digest


@few
@given(st.integers(0, 2**32))
def test_the_same_events_give_the_same_actions_and_the_same_state(seed: int) -> None:
    faults = Faults.everything()
    world = World(seed, faults, audited=0.0)
    world.run()
    for agent in world.agents.values():
        former = agent.core
        assert isinstance(former, RecordedCoordinator)
        again = Coordinator(agent.cluster, world.policy)
        again.restore(former.began)
        for events, now, actions in former.history:
            done = again.resume(now) if events is None else again.handle_all(events, now)
            assert msgspec.msgpack.encode(done) == actions
        assert again.snapshot() == former.snapshot()


@few
@given(st.integers(0, 2**32), st.integers(0, 400))
def test_a_log_from_the_start_and_one_from_a_snapshot_lead_to_the_same_actions(seed: int, moment: int) -> None:
    world = World(seed, Faults(repeats=0.1, attempt_fails=0.1), audited=0.0)
    for _ in range(moment):
        world.step()
    for agent in world.agents.values():
        from_log = agent.rebuilt(check=True)
        from_snapshot = Coordinator(agent.cluster, world.policy)
        from_snapshot.restore(agent.core.snapshot())
        said = [msgspec.msgpack.encode(core.resume(world.now)) for core in (from_log, from_snapshot)]
        assert said[0] == said[1]
        assert from_log.snapshot() == from_snapshot.snapshot()


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.log")), ids=lambda path: path.stem)
def test_the_log_of_a_real_run_means_what_it_meant(path: Path) -> None:
    recorded = Recorded.read(path)
    core = recorded.replayed()
    assert bytes_digest(core.snapshot()) == recorded.digest
    again = Coordinator(recorded.cluster)
    again.restore(core.snapshot())
    said = [msgspec.msgpack.encode(each.resume(100.0)) for each in (core, again)]
    assert said[0] == said[1], "from the log and from its snapshot follow the same actions"
    assert core.snapshot() == again.snapshot()
    audit(core)
