"""Many clusters: a run that no single transaction can hold is handed out, executed and ended like any other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import STEP
from tests.hub.test_runs import submit, until

CLUSTERS = 130  # etcd takes 128 operations at most


def objects() -> str:
    names = [f"c{number:03d}" for number in range(CLUSTERS)]
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


async def test_a_run_on_many_clusters(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, objects())
    async with AsyncExitStack() as stack:
        agents = [FakeAgent(hub, f"c{number:03d}") for number in range(CLUSTERS)]
        await asyncio.gather(*(stack.enter_async_context(agent) for agent in agents))
        submitted = await submit(person)
        run = submitted.run.name
        assert submitted.run.state == m.RUN_STATE_RUNNING
        assert len(submitted.run.fragments) == CLUSTERS

        async def execute(agent: FakeAgent) -> None:
            fragment = await agent.assigned(run)
            await agent.say(accepted={"namespace": "default", "run": run, "epoch": fragment.epoch})
            steps = [m.StepProgress(step=step.name, done=7, bytes_out=10) for step in fragment.steps]
            await agent.end(fragment, steps=steps)

        await asyncio.gather(*map(execute, agents))
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
        assert len(ended.fragments) == CLUSTERS
        await asyncio.gather(*(agent.assigned(run, m.DESIRED_STATE_FINISHED) for agent in agents))
        status = await person.Status(cp.StatusRequest())
        assert len(status.clusters) == CLUSTERS
