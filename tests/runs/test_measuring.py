"""What ended runs have shown is added up, however many end at once."""

from __future__ import annotations

import asyncio

from bdw_fed.v1 import model_pb2 as m
from control_plane.kinds import Kinds, object_names
from control_plane.runs import messages
from control_plane.runs.driver import Runs
from control_plane.runs.measuring import Measurements

DEADLINE = 20.0
RUNS = 60  # more than are noted at once


async def test_runs_that_end_together_all_count_and_cost_few_writes(kinds: Kinds, runs: Runs, namespace: str) -> None:
    steps = [m.Step(name="a", definition="count@1"), m.Step(name="b", definition="sort@2")]
    measurements = Measurements(kinds)

    async def ended(name: str) -> m.Run:
        fragment = m.Fragment(namespace=namespace, run=name, cluster="here", epoch=1, revision=1, steps=steps)
        run = m.Run(namespace=namespace, name=name, workflow="w", idempotency_key=name)
        await runs.submit(run, messages.Planned(1, b"p", (fragment,), 2.0))
        counters = [m.StepProgress(step=step.name, done=2, bytes_out=10, busy_seconds=3.0) for step in steps]
        status = m.FragmentStatus(
            namespace=namespace, run=name, cluster="here", epoch=1, state=m.FRAGMENT_STATE_SUCCEEDED, steps=counters
        )
        return await runs.happened(namespace, name, messages.FragmentEnded(status, 1, 9.0, ()))

    for run in await asyncio.gather(*(ended(f"r{number}") for number in range(RUNS))):
        measurements.ended(run)
    before = await kinds.revision()
    keeping = asyncio.create_task(measurements.keep())
    try:
        for definition in ("count@1", "sort@2"):
            key = kinds.measured.key(namespace, *object_names("Step", definition))
            async with asyncio.timeout(DEADLINE), kinds.measured.watch(namespace, after=before) as watch:
                tasks = 0.0
                while tasks < 2 * RUNS:
                    tasks = max([tasks, *(each.value.tasks for each in (await anext(watch)).events if each.key == key)])
            stored = await kinds.measured.get(key)
            assert stored is not None
            assert (stored.value.tasks, stored.value.bytes_out, stored.value.busy_seconds) == (120.0, 600.0, 180.0)
        assert await kinds.revision() - before <= 2
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
