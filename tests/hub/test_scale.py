"""Many clusters: a run that no single transaction can hold is handed out, executed and ended like any other.

The quick test has a few, and fewer writes are put together; the slow one has more than etcd takes at once.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane import kinds
from tests.hub.agent import FakeAgent
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import STEP
from tests.hub.test_runs import submit, until


def objects(names: list[str]) -> str:
    clusters = "\n".join(f"    - {{name: {name}, zone: z, nodes: [{{name: n1}}]}}" for name in names)
    parts = ", ".join(f"{{at: {name}, path: a.csv, size: 100}}" for name in names)
    return f"""
kind: Topology
metadata: {{name: wide}}
spec:
  zones: [{{name: z, tier: edge}}]
  clusters:
{clusters}
  datasets: [{{name: rows, parts: [{parts}]}}]
---
{STEP}
---
kind: Workflow
metadata: {{name: counting}}
spec:
  inputs: {{rows: {{dataset: rows}}, others: {{dataset: rows}}}}
  steps:
    - {{name: pair, use: pair@1, in: {{rows: inputs.rows, others: {{from: inputs.others, same: cluster}}}}}}
    - {{name: total, use: count@1, in: {{rows: {{from: pair.total, gather: all}}}}}}
  outputs: {{result: total.total}}
---
kind: Step
metadata: {{name: pair, version: "1"}}
spec: {{run: {{command: [wc]}}, inputs: {{rows: {{}}, others: {{}}}}, outputs: {{total: {{}}}}}}
"""


@pytest.mark.parametrize(
    ("clusters", "together"), [(18, 8), pytest.param(130, kinds.MOST_OPERATIONS, marks=pytest.mark.slow)]
)
async def test_a_run_on_many_clusters(
    clusters: int, together: int, hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{number:03d}" for number in range(clusters)]
    await apply(person, objects(names))
    monkeypatch.setattr(kinds, "MOST_OPERATIONS", together)
    async with AsyncExitStack() as stack:
        agents = [FakeAgent(hub, name) for name in names]
        await asyncio.gather(*(stack.enter_async_context(agent) for agent in agents))
        submitted = await submit(person)
        run = submitted.run.name
        assert submitted.run.state == m.RUN_STATE_RUNNING
        assert len(submitted.run.fragments) == clusters

        async def execute(agent: FakeAgent) -> None:
            fragment = await agent.assigned(run)
            await agent.say(accepted={"namespace": "default", "run": run, "epoch": fragment.epoch})
            steps = [m.StepProgress(step=step.name, done=7, bytes_out=10) for step in fragment.steps]
            await agent.end(fragment, steps=steps)

        await asyncio.gather(*map(execute, agents))
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
        assert len(ended.fragments) == clusters
        await asyncio.gather(*(agent.assigned(run, m.DESIRED_STATE_FINISHED) for agent in agents))
        status = await person.Status(cp.StatusRequest())
        assert len(status.clusters) == clusters
