"""From a workflow's name and parameters to a run that is stored and handed out, or queued.

What the plan stands on is read once, or was before; the run is stored on the condition that it still is so, with its
plan (see `planning`), in one transaction. A key that the caller gives makes one run, however often it is given.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from control_plane.api.errors import Changed, Wrong
from control_plane.api.grounds import Grounds, GroundsReader
from control_plane.api.planning import Planning
from control_plane.api.uses import hooks_used
from control_plane.kinds import Kinds, submission_name
from control_plane.patience import persistently
from control_plane.quotas.admission import Admission
from control_plane.runs import hooks, lines, messages, retrying
from control_plane.runs.driver import Runs
from control_plane.runs.errors import Refused
from control_plane.store.errors import Conflict, InvalidName
from control_plane.store.etcd.errors import EtcdError
from control_plane.store.keys import checked_name
from wire.errors import ProblemError
from wire.lines import LONGEST, may_name_a_run

if TYPE_CHECKING:
    from control_plane.planner.core import Planned


class Signer(Protocol):
    """Signs which fragments of a run count, so that peers can show it: see wire.epochs."""

    def __call__(self, namespace: str, run: str, revision: int, epochs: Mapping[str, int]) -> m.SignedEpochs: ...


_SUFFIX = "abcdefghijkmnpqrstuvwxyz23456789"
_LONGEST_STEM = LONGEST - 6
_RESERVING = ("hold", "lend")


class Submissions:
    """Makes runs."""

    def __init__(
        self, kinds: Kinds, grounds: GroundsReader, planning: Planning, runs: Runs, admission: Admission
    ) -> None:
        self._kinds = kinds
        self._grounds = grounds
        self._planning = planning
        self._runs = runs
        self._admission = admission

    async def submit(self, request: cp.SubmitRequest, by: str) -> cp.SubmitResponse:
        """Make a run and hand it out, or with dry_run only its plan. ProblemError with all that is in the way."""
        namespace = request.namespace or "default"
        if request.run:
            _check_name(request.run)
        if request.again_of:
            return await self._again_of(request, by)
        key = request.idempotency_key or secrets.token_hex(16)  # so that an attempt whose fate is unknown is found
        digest = submission_name(key)
        submission = self._kinds.submissions.key(namespace, digest)

        async def attempt() -> cp.SubmitResponse:
            look = await self._grounds.look(namespace, request.workflow, request.topology, [submission])
            seen = self._kinds.submissions.seen(look, submission)
            if seen and (before := await self._runs.submitted_before(namespace, digest)):
                return cp.SubmitResponse(run=before, plan=await self._planning.of(before))
            grounds = await self._grounds.grounds(namespace, request.workflow, request.topology, look)
            return await self._made(request, by, key, grounds)

        known = self._grounds.remembered(namespace, request.workflow, request.topology)
        if known and not request.run and not request.dry_run:
            with suppress(Changed, ProblemError, Refused, Conflict, EtcdError):  # these are said of what there is now
                return await self._made(request, by, key, known)
        return await persistently(attempt)

    async def _made(
        self, request: cp.SubmitRequest, by: str, key: str, grounds: Grounds, template: m.Run | None = None
    ) -> cp.SubmitResponse:
        """Plan on these grounds, and store the run on their conditions, unless it is a dry run.

        `template` says which hook it executes, of which run, if it does.
        """
        told = template or m.Run(no_cache=request.no_cache)
        namespace = request.namespace or "default"
        workflow = grounds.workflow.value
        expected = request.expected_workflow_revision
        if expected not in (0, workflow.revision):
            raise Changed(f"workflow {request.workflow} is at revision {workflow.revision}, expected was {expected}")
        name = request.run or _run_name(request.workflow)
        planned, parameters = await self._planning.plan(
            namespace, name, grounds, request.parameters_json, epoch=grounds.revision, told=told
        )
        run = m.Run(
            namespace=namespace,
            name=name,
            workflow=request.workflow,
            workflow_revision=workflow.revision,
            workflow_digest=workflow.digest.hex(),
            topology=grounds.topology.value.name,
            topology_revision=grounds.topology.value.revision,
            workflows={name: each.value.revision for name, each in grounds.workflows.items()},
            parameters_json=parameters,
            submitted_at=time.time(),
            submitted_by=by,
            idempotency_key=key,
            again_of=request.again_of,
            hooks=() if told.hook else hooks_used(workflow),
            hook_of=told.hook_of,
            hook=told.hook,
            hook_facts=told.hook_facts,
            no_cache=told.no_cache,
        )
        if request.dry_run:
            return cp.SubmitResponse(run=run, plan=planned.plan)
        return await self._stored(run, planned, grounds)

    async def _again_of(self, request: cp.SubmitRequest, by: str) -> cp.SubmitResponse:
        """A new run of the workflow that another one was of, as it was then, with its parameters but for those given.

        In the topology as it is now. NotFound if there is no such run any more.
        """
        namespace = request.namespace or "default"
        if request.workflow:
            raise Wrong("what is to be run is either a workflow or a run again")
        before = await self._runs.get(namespace, request.again_of)
        key = request.idempotency_key or secrets.token_hex(16)
        asked = cp.SubmitRequest()
        asked.CopyFrom(request)
        asked.workflow = before.workflow
        asked.topology = request.topology or before.topology
        given = json.loads(request.parameters_json or "{}")
        if not isinstance(given, dict):
            raise Wrong("the parameters are not an object with a value for each")
        asked.parameters_json = json.dumps({**json.loads(before.parameters_json or "{}"), **given})

        async def attempt() -> cp.SubmitResponse:
            if made := await self._runs.submitted_before(namespace, submission_name(key)):
                return cp.SubmitResponse(run=made, plan=await self._planning.of(made))
            look = await self._grounds.look(namespace, asked.workflow, asked.topology, whole=True)
            revisions = {**before.workflows, before.workflow: before.workflow_revision}
            grounds = await self._grounds.grounds(namespace, asked.workflow, asked.topology, look, revisions)
            return await self._made(asked, by, key, grounds)

        return await persistently(attempt)

    async def submit_hook(self, ended: m.Run, hook: str) -> m.Run:
        """A run that executes a hook of a run that has ended; the same one however often it is asked for."""
        key = f"hook {hook} of {ended.name}, {ended.submitted_at}, {ended.tries}"
        request = cp.SubmitRequest(
            namespace=ended.namespace,
            workflow=ended.workflow,
            topology=ended.topology,
            run=hooks.name_of(ended, hook),
            parameters_json=ended.parameters_json,
        )
        template = m.Run(hook_of=ended.name, hook=hook, hook_facts=hooks.facts_of(ended))

        async def attempt() -> m.Run:
            if made := await self._runs.submitted_before(ended.namespace, submission_name(key)):
                return made
            look = await self._grounds.look(ended.namespace, ended.workflow, ended.topology, whole=True)
            revisions = {**ended.workflows, ended.workflow: ended.workflow_revision}
            grounds = await self._grounds.grounds(ended.namespace, ended.workflow, ended.topology, look, revisions)
            return (await self._made(request, ended.submitted_by, key, grounds, template)).run

        return await persistently(attempt)

    async def _stored(self, run: m.Run, planned: Planned, grounds: Grounds) -> cp.SubmitResponse:
        also = [*grounds.conditions]
        if not run.hook_of:
            also += await self._admission.admit(run.namespace, run.name)
        digest, writes = await self._planning.keep(run, planned.plan)
        fragments = tuple(planned.fragments.values())
        revision = planned.plan.revision
        event: messages.Planned | messages.Queued
        if (mode := fragments[0].policy.reserve) in _RESERVING:
            event = messages.Queued(revision, digest, mode, tuple(sorted(planned.fragments)))
        else:
            event = messages.Planned(revision=revision, plan=digest, fragments=fragments, at=time.time())
        stored = await self._runs.submit(run, event, [*also, *writes])
        made = stored.name == run.name  # else its key had made another one before
        return cp.SubmitResponse(run=stored, plan=planned.plan if made else await self._planning.of(stored))

    async def retry(self, namespace: str, name: str, sign: Signer) -> m.Run:
        """Try a run again that has not succeeded. NoSuchRun, Refused, ProblemError if there is no plan for it now."""

        async def attempt() -> m.Run:
            run = await self._runs.get(namespace, name)
            if why := retrying.objection(run):
                raise Refused(why)
            planned, digest, also = await self._planning.again(run, {}, revision=run.plan_revision + 1)
            if not run.hook_of:
                also += await self._admission.admit(namespace, name)
            fragments = tuple(planned.fragments.values())
            line = lines.name_of(run)
            table = sign(namespace, line, planned.plan.revision, fragments[0].epochs)
            for fragment in fragments:
                fragment.run = line
                fragment.table.CopyFrom(table)
            event = messages.Retried(planned.plan.revision, digest, fragments)

            async def same(_: m.Run) -> messages.Event:
                return event

            outcome = await self._runs.happen(namespace, name, same, also)
            assert outcome.run is not None
            return outcome.run

        return await persistently(attempt)


def _check_name(run: str) -> None:
    """InvalidName if a run can't be called so."""
    checked_name(run)
    if not may_name_a_run(run):
        raise InvalidName(f"{run!r} can't name a run: expected at most {LONGEST} characters, and no '.-'")


def _run_name(workflow: str) -> str:
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return f"{workflow[:_LONGEST_STEM].rstrip('-')}-{suffix}"
