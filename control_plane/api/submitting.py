"""From a workflow's name and parameters to a plan, and from a plan to a run.

What the plan stands on is read once; the run is stored on the condition that workflow and topology are still those.
The plan itself, with all its reasons, goes into the blob store, its digest into the run.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from control_plane.api.errors import Changed, NotFound, Wrong
from control_plane.blobs.base import BlobStore
from control_plane.kinds import Kinds, object_names, submission_name
from control_plane.models import models_imported
from control_plane.patience import persistently
from control_plane.runs import messages
from control_plane.runs.driver import Runs
from control_plane.store.base import Stored
from control_plane.store.keys import checked_name
from wire.digests import bytes_digest

if TYPE_CHECKING:
    from control_plane.planner.base import Measured
    from control_plane.planner.core import Planned

_SUFFIX = "abcdefghijkmnpqrstuvwxyz23456789"
_LONGEST_STEM = 57
Statuses = Callable[[], Mapping[str, cp.ClusterStatus]]


@dataclass(frozen=True)
class _Objects:
    """What a plan stands on."""

    workflow: Stored[cp.Object]
    topology: Stored[cp.Object]
    steps: Mapping[str, cp.Object]


class Submissions:
    """Plans and makes runs. `statuses` gives the agents as they are now."""

    def __init__(self, kinds: Kinds, runs: Runs, blobs: BlobStore, statuses: Statuses) -> None:
        self._kinds = kinds
        self._runs = runs
        self._blobs = blobs
        self._statuses = statuses

    async def submit(self, request: cp.SubmitRequest, by: str) -> cp.SubmitResponse:
        """Make a run and hand it out, or with dry_run only its plan. ProblemError with all that is in the way."""
        namespace = request.namespace or "default"
        key = request.idempotency_key or secrets.token_hex(16)  # so that an attempt whose fate is unknown is found
        digest = submission_name(key)
        if request.run:
            checked_name(request.run)

        async def attempt() -> cp.SubmitResponse:
            if before := await self._runs.submitted_before(namespace, digest):
                return cp.SubmitResponse(run=before, plan=await self.plan_of(before))
            objects = await self._objects(namespace, request.workflow, request.topology)
            expected = request.expected_workflow_revision
            if expected not in (0, objects.workflow.value.revision):
                raise Changed(
                    f"workflow {request.workflow} is at revision {objects.workflow.value.revision}, "
                    f"expected was {expected}"
                )
            name = request.run or _run_name(request.workflow)
            planned, parameters = await self._planned(namespace, name, objects, request.parameters_json)
            run = m.Run(
                namespace=namespace,
                name=name,
                workflow=request.workflow,
                workflow_revision=objects.workflow.value.revision,
                workflow_digest=objects.workflow.value.digest.hex(),
                topology=objects.topology.value.name,
                topology_revision=objects.topology.value.revision,
                parameters_json=parameters,
                submitted_at=time.time(),
                submitted_by=by,
                idempotency_key=key,
            )
            if request.dry_run:
                return cp.SubmitResponse(run=run, plan=planned.plan)
            return await self._stored(run, planned, objects)

        return await persistently(attempt)

    async def planned(self, namespace: str, workflow: str, parameters_json: str) -> m.Plan:
        """The plan that a submission would have now."""
        namespace = namespace or "default"
        objects = await self._objects(namespace, workflow, "")
        planned, _ = await self._planned(namespace, "", objects, parameters_json)
        return planned.plan

    async def plan_of(self, run: m.Run) -> m.Plan:
        """The plan that a run was made with."""
        if not run.plan:
            raise NotFound(f"run {run.name} has no plan yet")
        async with self._blobs.get(run.plan) as chunks:
            return m.Plan.FromString(b"".join([chunk async for chunk in chunks]))

    async def _stored(self, run: m.Run, planned: Planned, objects: _Objects) -> cp.SubmitResponse:
        packed = planned.plan.SerializeToString(deterministic=True)
        plan_digest = bytes_digest(packed)
        await self._blobs.put(plan_digest, _once(packed))
        event = messages.Planned(
            revision=planned.plan.revision,
            plan=plan_digest,
            fragments=tuple(planned.fragments.values()),
            at=time.time(),
        )
        same = [
            self._kinds.objects["Workflow"].unchanged(objects.workflow.key, objects.workflow.revision),
            self._kinds.objects["Topology"].unchanged(objects.topology.key, objects.topology.revision),
        ]
        stored = await self._runs.submit(run, event, same)
        return cp.SubmitResponse(run=stored, plan=planned.plan)

    async def _objects(self, namespace: str, workflow: str, topology: str) -> _Objects:
        stored = await self._object(namespace, "Workflow", workflow)
        if topology:
            where = await self._object(namespace, "Topology", topology)
        else:
            listing = await self._kinds.objects["Topology"].list(namespace)
            if len(listing.items) != 1:
                names = ", ".join(each.value.name for each in listing.items)
                problem = f"there are several: {names}" if names else "there is none: apply one first"
                raise Wrong(f"in which topology workflow {workflow} is to run must be said, because {problem}")
            where = listing.items[0]
        uses = {use["use"] for use in json.loads(stored.value.spec_json)["spec"]["steps"]}
        steps = {use: (await self._object(namespace, "Step", use)).value for use in sorted(uses)}
        return _Objects(stored, where, steps)

    async def _object(self, namespace: str, kind: str, name: str) -> Stored[cp.Object]:
        repository = self._kinds.objects[kind]
        stored = await repository.get(repository.key(namespace, *object_names(kind, name)))
        if stored is None:
            raise NotFound(f"there is no {kind.lower()} {name} in namespace {namespace}")
        return stored

    async def _planned(self, namespace: str, run: str, objects: _Objects, parameters_json: str) -> tuple[Planned, str]:
        """The plan, and the workflow's resolved parameters."""
        await models_imported()
        from control_plane.api.preparing import prepared
        from control_plane.planner.core import plan

        measured = {name: await self._measured(namespace, name) for name in objects.steps}
        request, parameters = prepared(
            namespace=namespace,
            run=run,
            workflow=objects.workflow.value,
            topology=objects.topology.value,
            steps=objects.steps,
            parameters_json=parameters_json,
            clusters=self._statuses(),
            measured={name: known for name, known in measured.items() if known is not None},
            epoch=await self._kinds.revision(),
        )
        return plan(request), json.dumps(parameters, sort_keys=True)

    async def _measured(self, namespace: str, definition: str) -> Measured | None:
        from control_plane.planner.base import Measured

        repository = self._kinds.measured
        stored = await repository.get(repository.key(namespace, *object_names("Step", definition)))
        if stored is None or not stored.value.tasks:
            return None
        known = stored.value
        selectivity = known.bytes_out / known.bytes_in if known.bytes_in else None
        return Measured(selectivity, known.busy_seconds / known.tasks)


def _run_name(workflow: str) -> str:
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return f"{workflow[:_LONGEST_STEM].rstrip('-')}-{suffix}"


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
