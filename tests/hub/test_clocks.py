"""How far an agent's clock is from the hub's is measured and shown, and harms nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.federation.clocks import Clocks
from tests.hub.agent import FakeAgent
from tests.hub.hub import RunningHub, apply, asked_until
from tests.hub.objects import ALL
from tests.hub.test_runs import submit, until

HOURS = 3600.0
DELAYS = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30)


@given(ahead=st.floats(-1e6, 1e6), delays=DELAYS, sent=st.floats(1e9, 2e9))
def test_the_measure_is_wrong_by_no_more_than_the_quickest_of_the_last_heartbeats_took(
    ahead: float, delays: list[float], sent: float
) -> None:
    clocks = Clocks()
    for number, delay in enumerate(delays):
        at = sent + 5 * number
        clocks.heard("edge", at + ahead, at + delay)
    measured = clocks.ahead("edge")
    assert measured is not None
    assert ahead - min(delays[-12:]) - 1e-3 <= measured <= ahead + 1e-3
    clocks.forget("edge")
    assert clocks.ahead("edge") is None


async def shown(person: ControlPlaneServiceStub, cluster: str, near: float) -> None:
    """Wait until the hub shows that the cluster's clock is about so far ahead."""

    def is_shown(status: cp.StatusResponse) -> bool:
        found = {each.name: each for each in status.clusters}.get(cluster)
        return found is not None and found.HasField("clock_ahead") and abs(found.clock_ahead - near) < 30.0

    await asked_until(lambda: person.Status(cp.StatusRequest()), is_shown)


@pytest.mark.parametrize("ahead", [-26 * HOURS, 26 * HOURS])
async def test_a_clock_that_is_hours_off_is_shown_and_logged_once_and_changes_no_run(
    hub: RunningHub, person: ControlPlaneServiceStub, ahead: float
) -> None:
    await apply(person, ALL)
    with capture_logs() as logs:
        async with FakeAgent(hub, "cloud") as cloud, FakeAgent(hub, "edge") as edge:
            edge.clock_ahead = ahead
            await shown(person, "cloud", 0.0)
            await shown(person, "edge", ahead)
            run = (await submit(person)).run.name
            for agent in (edge, cloud):
                await agent.end(await agent.assigned(run))
            assert (await until(person, run, m.RUN_STATE_SUCCEEDED)).ended_at > 0
            for _ in range(3):
                await edge.beat()
            edge.clock_ahead = 0.0
            await shown(person, "edge", 0.0)
    told = [(log["event"], log["cluster"]) for log in logs if "clock" in str(log["event"])]
    assert told == [("an agent's clock is not ours", "edge"), ("an agent's clock is ours again", "edge")]
