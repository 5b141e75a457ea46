"""Plans of runs: made on what is known now or was then, kept beside the run, found again.

    grounds, statuses, limits ─▶ Request ─▶ planner ─▶ Planned ─▶ what stores it, in the transaction that wants it

A plan with all its reasons may be large; such a one goes into the blob store before.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.api.errors import NotFound
from control_plane.api.grounds import Grounds, GroundsReader
from control_plane.blobs.base import BlobStore
from control_plane.kinds import Kinds, writing
from control_plane.models import models_imported
from control_plane.quotas.admission import Admission
from control_plane.store.base import Stored
from control_plane.store.transaction import Operation
from wire.digests import bytes_digest

if TYPE_CHECKING:
    from control_plane.planner.base import Measured
    from control_plane.planner.core import Planned

_SMALL_PLAN = 32 << 10  # bytes: such a plan needs no blob
Statuses = Callable[[], Mapping[str, cp.ClusterStatus]]


class Planning:
    """Plans runs, and keeps their plans. `statuses` gives the agents as they are now."""

    def __init__(
        self, kinds: Kinds, grounds: GroundsReader, blobs: BlobStore, statuses: Statuses, admission: Admission
    ) -> None:
        self._kinds = kinds
        self._grounds = grounds
        self._blobs = blobs
        self._statuses = statuses
        self._admission = admission

    async def plan(
        self,
        namespace: str,
        run: str,
        grounds: Grounds,
        parameters_json: str,
        *,
        epoch: int,
        denied: Mapping[str, str] | None = None,
        lost: Collection[str] = (),
        revision: int = 1,
        told: m.Run | None = None,
    ) -> tuple[Planned, str]:
        """The plan, and the workflow's resolved parameters."""
        await models_imported()
        from control_plane.api.preparing import prepared
        from control_plane.planner.core import plan

        request, parameters = prepared(
            namespace=namespace,
            run=run,
            workflow=grounds.workflow.value,
            topology=grounds.topology.value,
            steps=grounds.steps,
            workflows={name: each.value for name, each in grounds.workflows.items()},
            parameters_json=parameters_json,
            hook=told.hook if told is not None else "",
            facts=told.hook_facts if told is not None else {},
            measured={name: _measured(known) for name, known in grounds.measured.items() if known.tasks},
            epoch=epoch,
            fresh=told is not None and told.no_cache,
        )
        clusters = _without(self._statuses(), lost)
        storage = self._admission.storage(namespace)
        request = replace(request, clusters=clusters, denied=denied or {}, revision=revision, storage=storage)
        return plan(request), json.dumps(parameters, sort_keys=True)

    async def now(self, namespace: str, workflow: str, parameters_json: str) -> m.Plan:
        """The plan that a submission would have now."""
        namespace = namespace or "default"
        look = await self._grounds.look(namespace, workflow, "")
        grounds = await self._grounds.grounds(namespace, workflow, "", look)
        planned, _ = await self.plan(namespace, "", grounds, parameters_json, epoch=look.revision)
        return planned.plan

    async def again(
        self, run: m.Run, denied: Mapping[str, str], *, lost: Collection[str] = (), revision: int = 1
    ) -> tuple[Planned, bytes, list[Operation]]:
        """A new plan of a run, on what it was submitted on and as the clusters are now, without those `denied`.

        `lost`: clusters that are taken to be out of touch. Returns the plan with its digest, and the writes that store
        it. ProblemError if there is none.
        """
        look = await self._grounds.look(run.namespace, run.workflow, run.topology, whole=True)
        revisions = {**run.workflows, run.workflow: run.workflow_revision}
        then = await self._grounds.grounds(run.namespace, run.workflow, run.topology, look, revisions)
        topology = await self._grounds.of_revision("Topology", then.topology, run.topology_revision)
        grounds = replace(then, topology=topology)
        planned, _ = await self.plan(
            run.namespace,
            run.name,
            grounds,
            run.parameters_json,
            epoch=await self._kinds.revision(),
            denied=denied,
            lost=lost,
            revision=revision,
            told=run,
        )
        before = await self._kinds.plans.get(self._kinds.plans.key(run.namespace, run.name))
        digest, writes = await self.keep(run, planned.plan, before)
        return planned, digest, writes

    async def keep(
        self, run: m.Run, plan: m.Plan, before: Stored[m.Plan] | None = None
    ) -> tuple[bytes, list[Operation]]:
        """The digest of a run's plan, and the writes that store it in the place of the one that was there `before`."""
        packed = plan.SerializeToString(deterministic=True)
        digest = bytes_digest(packed)
        if len(packed) <= _SMALL_PLAN:
            return digest, [writing(self._kinds.plans, self._kinds.plans.key(run.namespace, run.name), before, plan)]
        await self._blobs.put(digest, _once(packed))
        return digest, [self._kinds.plans.deleting(before.key, before.revision)] if before else []

    async def of(self, run: m.Run) -> m.Plan:
        """The plan that a run was made with."""
        if not run.plan:
            raise NotFound(f"run {run.name} has no plan yet")
        if stored := await self._kinds.plans.get(self._kinds.plans.key(run.namespace, run.name)):
            return stored.value
        async with self._blobs.get(run.plan) as chunks:
            return m.Plan.FromString(b"".join([chunk async for chunk in chunks]))


def _without(statuses: Mapping[str, cp.ClusterStatus], lost: Collection[str]) -> Mapping[str, cp.ClusterStatus]:
    """The clusters' states, the lost ones as out of touch."""
    if not lost:
        return statuses
    return {**statuses, **{each: cp.ClusterStatus(name=each, state="unknown") for each in lost}}


def _measured(known: s.StepMeasured) -> Measured:
    from control_plane.planner.base import Measured

    selectivity = known.bytes_out / known.bytes_in if known.bytes_in else None
    return Measured(selectivity, known.busy_seconds / known.tasks)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
