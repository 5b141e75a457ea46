"""From a workflow's name and parameters to a plan, and from a plan to a run.

What the plan stands on is read once, or was a moment ago; the run is stored on the condition that it still is so.
The plan itself, with all its reasons, is stored in the same transaction; a large one goes into the blob store before.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.api.errors import Changed, NotFound
from control_plane.api.grounds import Grounds, GroundsReader
from control_plane.blobs.base import BlobStore
from control_plane.kinds import Kinds, revision_name, submission_name, writing
from control_plane.models import models_imported
from control_plane.patience import persistently
from control_plane.runs import messages
from control_plane.runs.driver import Runs
from control_plane.store.base import Stored
from control_plane.store.errors import Conflict, InvalidName
from control_plane.store.etcd.errors import EtcdError
from control_plane.store.keys import checked_name
from control_plane.store.transaction import Operation
from wire.digests import bytes_digest
from wire.errors import ProblemError
from wire.lines import LONGEST, may_name_a_run

if TYPE_CHECKING:
    from control_plane.planner.base import Measured
    from control_plane.planner.core import Planned

_SUFFIX = "abcdefghijkmnpqrstuvwxyz23456789"
_LONGEST_STEM = LONGEST - 6
_SMALL_PLAN = 32 << 10  # bytes: such a plan needs no blob
_RESERVING = ("hold", "lend")
Statuses = Callable[[Iterable[str]], Mapping[str, cp.ClusterStatus]]


class Submissions:
    """Plans and makes runs. `statuses` gives the agents of some clusters as they are now."""

    def __init__(self, kinds: Kinds, runs: Runs, blobs: BlobStore, statuses: Statuses) -> None:
        self._kinds = kinds
        self._grounds = GroundsReader(kinds)
        self._runs = runs
        self._blobs = blobs
        self._statuses = statuses

    async def submit(self, request: cp.SubmitRequest, by: str) -> cp.SubmitResponse:
        """Make a run and hand it out, or with dry_run only its plan. ProblemError with all that is in the way."""
        namespace = request.namespace or "default"
        key = request.idempotency_key or secrets.token_hex(16)  # so that an attempt whose fate is unknown is found
        digest = submission_name(key)
        submission = self._kinds.submissions.key(namespace, digest)
        if request.run:
            checked_name(request.run)
            if not may_name_a_run(request.run):
                raise InvalidName(
                    f"{request.run!r} can't name a run: expected at most {LONGEST} characters, and no '.-'"
                )

        async def attempt() -> cp.SubmitResponse:
            look = await self._grounds.look(namespace, request.workflow, request.topology, [submission])
            seen = self._kinds.submissions.seen(look, submission)
            if seen and (before := await self._runs.submitted_before(namespace, digest)):
                return cp.SubmitResponse(run=before, plan=await self.plan_of(before))
            grounds = await self._grounds.grounds(namespace, request.workflow, request.topology, look)
            return await self._made(request, by, key, grounds)

        known = self._grounds.remembered(namespace, request.workflow, request.topology)
        if known and not request.run and not request.dry_run:
            with suppress(Changed, ProblemError, Conflict, EtcdError):  # these are said of what there is now
                return await self._made(request, by, key, known)
        return await persistently(attempt)

    async def _made(self, request: cp.SubmitRequest, by: str, key: str, grounds: Grounds) -> cp.SubmitResponse:
        """Plan on these grounds, and store the run on their conditions, unless it is a dry run."""
        namespace = request.namespace or "default"
        workflow = grounds.workflow.value
        expected = request.expected_workflow_revision
        if expected not in (0, workflow.revision):
            raise Changed(f"workflow {request.workflow} is at revision {workflow.revision}, expected was {expected}")
        name = request.run or _run_name(request.workflow)
        planned, parameters = await self._planned(
            namespace, name, grounds, request.parameters_json, epoch=grounds.revision
        )
        run = m.Run(
            namespace=namespace,
            name=name,
            workflow=request.workflow,
            workflow_revision=workflow.revision,
            workflow_digest=workflow.digest.hex(),
            topology=grounds.topology.value.name,
            topology_revision=grounds.topology.value.revision,
            parameters_json=parameters,
            submitted_at=time.time(),
            submitted_by=by,
            idempotency_key=key,
        )
        if request.dry_run:
            return cp.SubmitResponse(run=run, plan=planned.plan)
        return await self._stored(run, planned, grounds)

    async def planned(self, namespace: str, workflow: str, parameters_json: str) -> m.Plan:
        """The plan that a submission would have now."""
        namespace = namespace or "default"
        look = await self._grounds.look(namespace, workflow, "")
        grounds = await self._grounds.grounds(namespace, workflow, "", look)
        planned, _ = await self._planned(namespace, "", grounds, parameters_json, epoch=look.revision)
        return planned.plan

    async def plan_of(self, run: m.Run) -> m.Plan:
        """The plan that a run was made with."""
        if not run.plan:
            raise NotFound(f"run {run.name} has no plan yet")
        if stored := await self._kinds.plans.get(self._kinds.plans.key(run.namespace, run.name)):
            return stored.value
        async with self._blobs.get(run.plan) as chunks:
            return m.Plan.FromString(b"".join([chunk async for chunk in chunks]))

    async def _stored(self, run: m.Run, planned: Planned, grounds: Grounds) -> cp.SubmitResponse:
        packed = planned.plan.SerializeToString(deterministic=True)
        plan_digest = bytes_digest(packed)
        also = [*grounds.conditions]
        if len(packed) <= _SMALL_PLAN:
            also.append(self._kinds.plans.creating(self._kinds.plans.key(run.namespace, run.name), planned.plan))
        else:
            await self._blobs.put(plan_digest, _once(packed))
        fragments = tuple(planned.fragments.values())
        revision = planned.plan.revision
        event: messages.Planned | messages.Queued
        if (mode := fragments[0].policy.reserve) in _RESERVING:
            event = messages.Queued(revision, plan_digest, mode, tuple(sorted(planned.fragments)))
        else:
            event = messages.Planned(revision=revision, plan=plan_digest, fragments=fragments, at=time.time())
        stored = await self._runs.submit(run, event, also)
        plan = planned.plan if stored.name == run.name else await self.plan_of(stored)  # its key had made it before
        return cp.SubmitResponse(run=stored, plan=plan)

    async def again(
        self, run: m.Run, denied: Mapping[str, str], *, lost: Collection[str] = (), revision: int = 1
    ) -> tuple[Planned, bytes, list[Operation]]:
        """A new plan of a run, on what it was submitted on and as the clusters are now, without those `denied`.

        `lost`: clusters that are taken to be out of touch. Returns the plan with its digest, and the writes that store
        it. ProblemError if there is none.
        """
        look = await self._grounds.look(run.namespace, run.workflow, run.topology)
        newest = await self._grounds.grounds(run.namespace, run.workflow, run.topology, look)
        grounds = replace(
            newest,
            workflow=await self._of_revision("Workflow", newest.workflow, run.workflow_revision),
            topology=await self._of_revision("Topology", newest.topology, run.topology_revision),
        )
        planned, _ = await self._planned(
            run.namespace,
            run.name,
            grounds,
            run.parameters_json,
            epoch=await self._kinds.revision(),
            denied=denied,
            lost=lost,
            revision=revision,
        )
        packed = planned.plan.SerializeToString(deterministic=True)
        key = self._kinds.plans.key(run.namespace, run.name)
        before = await self._kinds.plans.get(key)
        if len(packed) <= _SMALL_PLAN:
            return planned, bytes_digest(packed), [writing(self._kinds.plans, key, before, planned.plan)]
        await self._blobs.put(bytes_digest(packed), _once(packed))
        return planned, bytes_digest(packed), [self._kinds.plans.deleting(key, before.revision)] if before else []

    async def _of_revision(self, kind: str, newest: Stored[cp.Object], revision: int) -> Stored[cp.Object]:
        if newest.value.revision == revision:
            return newest
        repository = self._kinds.revisions[kind]
        names = (newest.value.namespace, newest.value.name, revision_name(revision))
        stored = await repository.get(repository.key(*names))
        if stored is None:
            raise NotFound(f"revision {revision} of {kind.lower()} {newest.value.name} is not there any more")
        return stored

    async def _planned(
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
            parameters_json=parameters_json,
            measured={name: _measured(known) for name, known in grounds.measured.items() if known.tasks},
            epoch=epoch,
        )
        clusters = _without(self._statuses(each.name for each in request.topology.spec.clusters), lost)
        request = replace(request, clusters=clusters, denied=denied or {}, revision=revision)
        return plan(request), json.dumps(parameters, sort_keys=True)


def _without(statuses: Mapping[str, cp.ClusterStatus], lost: Collection[str]) -> Mapping[str, cp.ClusterStatus]:
    """The clusters' states, the lost ones as out of touch."""
    found = dict(statuses)
    for cluster in lost:
        found[cluster] = cp.ClusterStatus(name=cluster, state="unknown")
    return found


def _measured(known: s.StepMeasured) -> Measured:
    from control_plane.planner.base import Measured

    selectivity = known.bytes_out / known.bytes_in if known.bytes_in else None
    return Measured(selectivity, known.busy_seconds / known.tasks)


def _run_name(workflow: str) -> str:
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return f"{workflow[:_LONGEST_STEM].rstrip('-')}-{suffix}"


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
