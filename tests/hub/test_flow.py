"""Workflows with conditions, loops and other workflows in them, as the hub stores, plans and hands them out."""

from __future__ import annotations

import grpc.aio
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL

INNER = """
kind: Workflow
metadata: {name: inner}
spec:
  inputs: {rows: {}}
  steps: [{name: count, use: count@1, in: {rows: inputs.rows}}]
  outputs: {total: count.total}
"""
OUTER = """
kind: Workflow
metadata: {name: outer}
spec:
  parameters: {times: {type: array, default: [1, 2]}, extra: {type: boolean, default: false}}
  inputs: {rows: {dataset: rows}}
  steps:
    - {name: each, use: workflow/inner, for_each: {time: {from: param.times}}, in: {rows: inputs.rows}}
    - {name: extra, use: count@1, when: param.extra, in: {rows: inputs.rows}}
    - {name: last, use: count@1, in: {rows: {from: each.total, gather: all}}}
  outputs: {result: last.total, extra: extra.total}
"""


async def submit(person: ControlPlaneServiceStub, parameters: str = "", workflow: str = "outer") -> cp.SubmitResponse:
    request = cp.SubmitRequest(workflow=workflow, parameters_json=parameters)
    response: cp.SubmitResponse = await person.Submit(request, timeout=SECONDS)
    return response


def steps(answer: cp.SubmitResponse) -> set[str]:
    return {step.step for step in answer.plan.steps if "." not in step.step}


async def test_a_run_is_planned_without_conditions_loops_and_nesting_and_says_what_is_skipped(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, "\n---\n".join([ALL, OUTER, INNER]))
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud"):
        plain = await submit(person)
        assert steps(plain) == {"each-0:count", "each-1:count", "last"}
        assert dict(plain.plan.skipped) == {
            "extra": "when: param.extra",
            "outputs.extra": "what it reads is skipped: extra.total",
        }
        fragment = await edge.assigned(plain.run.name)
        last = next(step for step in fragment.steps if step.name == "last")
        assert [(port.name, port.from_step) for port in last.inputs] == [
            ("rows", "each-0:count"),
            ("rows", "each-1:count"),
        ]
        other = await submit(person, '{"times": [5], "extra": true}')
        assert steps(other) == {"each-0:count", "extra", "last"}
        assert not other.plan.skipped


async def test_a_run_keeps_the_revision_of_the_workflows_that_it_uses(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, "\n---\n".join([ALL, OUTER, INNER]))
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        assert dict((await submit(person)).run.workflows) == {"inner": 1}
        await apply(
            person, INNER.replace("name: count, use", "name: counted, use").replace("count.total", "counted.total")
        )
        after = await submit(person)
        assert dict(after.run.workflows) == {"inner": 2}
        assert "each-0:counted" in steps(after)


async def test_a_workflow_that_others_use_stays_and_one_without_data_is_not_run_alone(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, "\n---\n".join([ALL, OUTER, INNER]))
    with pytest.raises(grpc.aio.AioRpcError, match="workflow outer uses it"):
        await person.Delete(cp.DeleteRequest(kind="Workflow", name="inner"), timeout=SECONDS)
    with pytest.raises(grpc.aio.AioRpcError, match="names no dataset"):
        await submit(person, workflow="inner")


async def test_workflows_that_would_use_each_other_are_refused_also_one_after_the_other(
    person: ControlPlaneServiceStub,
) -> None:
    await apply(person, "\n---\n".join([ALL, OUTER, INNER]))
    around = INNER.replace("{name: count, use: count@1, in: {rows: inputs.rows}}", "{name: count, use: workflow/outer}")
    with pytest.raises(grpc.aio.AioRpcError, match="use each other without end: inner → outer → inner"):
        await apply(person, around.replace("count.total", "count.result"))


async def test_what_only_shows_with_the_parameters_is_told_when_it_is_submitted(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, "\n---\n".join([ALL, OUTER, INNER]))
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        with pytest.raises(grpc.aio.AioRpcError, match="every step is skipped"):
            await submit(person, '{"times": []}')
