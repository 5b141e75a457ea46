"""Runs: start one, follow it, steer it, understand it, take its results."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdw_fed.client.errors import NotFound, TimedOut, Unavailable
from bdw_fed.client.membership import Membership
from bdw_fed.client.objects import CALL_TIMEOUT, _aclose
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client.outputs import Downloaded

PATIENCE = 60.0
_PLAN_TIMEOUT = 120.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_ENDED = (model.RUN_STATE_SUCCEEDED, model.RUN_STATE_FAILED, model.RUN_STATE_CANCELLED)


def has_ended(run: model.Run) -> bool:
    """Whether the run is in an end state: succeeded, failed or cancelled."""
    return run.state in _ENDED


class Runs(Membership):
    """The part of the client that is about runs."""

    async def submit(
        self,
        workflow: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        topology: str = "",
        dry_run: bool = False,
        idempotency_key: str | None = None,
        expected_workflow_revision: int = 0,
        no_cache: bool = False,
    ) -> pb.SubmitResponse:
        """Start a run (or, with `dry_run`, only plan it); the answer has the `run` and its `plan`.

        The same `idempotency_key` again returns the same run. `no_cache`: all tasks are executed, also those of cached
        steps. Raises NotFound, Problems, Conflict.

            run = (await client.submit("delays", {"late_minutes": 30})).run
        """
        request = pb.SubmitRequest(
            namespace=self.namespace,
            workflow=workflow,
            parameters_json=json.dumps(dict(parameters or {})),
            run=name,
            dry_run=dry_run,
            idempotency_key=idempotency_key or uuid.uuid4().hex,
            expected_workflow_revision=expected_workflow_revision,
            topology=topology,
            no_cache=no_cache,
        )
        response: pb.SubmitResponse = await self._transport.call("Submit", request, _PLAN_TIMEOUT)
        return response

    async def watch_run(
        self, run: str, *, patience: float = PATIENCE, timeout: float | None = None
    ) -> AsyncIterator[model.Run]:
        """The run as it is now, then at each change, until it has ended.

        A hub that goes away is looked for again for `patience` seconds; then Unavailable. Raises NotFound, and
        TimedOut after `timeout` seconds in all.
        """
        request = pb.WatchRunRequest(namespace=self.namespace, run=run)
        deadline = None if timeout is None else time.monotonic() + timeout
        gone_since: float | None = None
        pause = _FIRST_PAUSE
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimedOut(f"run {run} has not ended within {timeout:g} s")
            changes = self._transport.stream("WatchRun", request, left)
            try:
                async for change in changes:
                    gone_since, pause = None, _FIRST_PAUSE
                    yield change.run
                    if has_ended(change.run):
                        return
            except TimedOut:
                continue
            except Unavailable:
                now = time.monotonic()
                gone_since = now if gone_since is None else gone_since
                if now - gone_since >= patience:
                    raise
            finally:
                await _aclose(changes)
            await self._transport.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def get_run(self, run: str) -> model.Run:
        """The run as it is now. Raises NotFound."""
        changes = self.watch_run(run, patience=0)
        try:
            async for state in changes:
                return state
        finally:
            await _aclose(changes)
        raise NotFound(f"run {run} is gone")

    async def wait(self, run: str, *, timeout: float | None = None) -> model.Run:
        """The run once it has ended. TimedOut if that takes longer than `timeout` seconds."""
        changes = self.watch_run(run, timeout=timeout)
        try:
            async for state in changes:
                if has_ended(state):
                    return state
        finally:
            await _aclose(changes)
        raise NotFound(f"run {run} is gone")

    async def cancel(self, run: str, *, reason: str = "") -> model.Run:
        """Stop the run for good; what runs is cancelled."""
        request = pb.CancelRunRequest(namespace=self.namespace, run=run, reason=reason)
        response: pb.CancelRunResponse = await self._transport.call("CancelRun", request, CALL_TIMEOUT)
        return response.run

    async def retry(self, run: str) -> model.Run:
        """Try a run again that has failed or was cancelled: what was done, and is still kept, is not done again.

        Raises NotFound, Conflict if it has succeeded or goes on, Problems if there is no plan for it now.
        """
        request = pb.RetryRunRequest(namespace=self.namespace, run=run)
        response: pb.RetryRunResponse = await self._transport.call("RetryRun", request, _PLAN_TIMEOUT)
        return response.run

    async def resubmit(
        self,
        run: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        idempotency_key: str | None = None,
        no_cache: bool = False,
    ) -> pb.SubmitResponse:
        """Start a new run of the workflow that `run` was of, as it was then, with its parameters and those given here.

        Raises NotFound, Problems, Conflict.
        """
        request = pb.SubmitRequest(
            namespace=self.namespace,
            again_of=run,
            parameters_json=json.dumps(dict(parameters or {})),
            run=name,
            idempotency_key=idempotency_key or uuid.uuid4().hex,
            no_cache=no_cache,
        )
        response: pb.SubmitResponse = await self._transport.call("Submit", request, _PLAN_TIMEOUT)
        return response

    async def suspend(self, run: str) -> model.Run:
        """Start no further task of the run until it is resumed; tasks under way end."""
        request = pb.SuspendRunRequest(namespace=self.namespace, run=run)
        response: pb.SuspendRunResponse = await self._transport.call("SuspendRun", request, CALL_TIMEOUT)
        return response.run

    async def resume(self, run: str) -> model.Run:
        """Let a suspended run go on."""
        request = pb.ResumeRunRequest(namespace=self.namespace, run=run)
        response: pb.ResumeRunResponse = await self._transport.call("ResumeRun", request, CALL_TIMEOUT)
        return response.run

    async def explain(
        self, *, run: str = "", workflow: str = "", parameters: Mapping[str, Any] | None = None
    ) -> model.Plan:
        """The plan of a run, or the one that a workflow would get now: filters, scores, expectations, alternatives."""
        request = pb.ExplainRequest(
            namespace=self.namespace,
            run=run,
            workflow=workflow,
            parameters_json=json.dumps(dict(parameters or {})) if workflow else "",
        )
        response: pb.ExplainResponse = await self._transport.call("Explain", request, _PLAN_TIMEOUT)
        return response.plan

    async def describe(self, run: str) -> pb.DescribeRunResponse:
        """The run, its plan, and the tasks that matter just now, asked of the clusters themselves."""
        request = pb.DescribeRunRequest(namespace=self.namespace, run=run)
        response: pb.DescribeRunResponse = await self._transport.call("DescribeRun", request, CALL_TIMEOUT)
        return response

    async def logs(
        self, run: str, *, step: str = "", cluster: str = "", task: bytes = b"", follow: bool = False
    ) -> AsyncIterator[pb.LogsResponse]:
        """What the run's tasks print; with `follow`, until the run has ended."""
        request = pb.LogsRequest(
            namespace=self.namespace, run=run, step=step, cluster=cluster, task=task, follow=follow
        )
        pieces = self._transport.stream("Logs", request)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await _aclose(pieces)

    async def events(self, run: str = "", *, follow: bool = False) -> AsyncIterator[model.Event]:
        """What happened in a run, or in the whole namespace; with `follow`, also what happens from now on."""
        request = pb.EventsRequest(namespace=self.namespace, run=run, follow=follow)
        responses = self._transport.stream("Events", request)
        try:
            async for response in responses:
                yield response.event
        finally:
            await _aclose(responses)

    async def cached(self, *, step: str = "", cluster: str = "") -> pb.ListCacheResponse:
        """What clusters keep of tasks' results, step by step; of a step (NAME or NAME@VERSION) or a cluster alone."""
        request = pb.ListCacheRequest(namespace=self.namespace, step=step, cluster=cluster)
        response: pb.ListCacheResponse = await self._transport.call("ListCache", request, CALL_TIMEOUT)
        return response

    async def clear_cache(self, *, step: str = "", age: float = 0.0, cluster: str = "") -> pb.ClearCacheResponse:
        """Give results up that clusters keep: of a step, those executed more than `age` seconds ago, or all.

        What was given up, and the clusters that could not be asked. Raises Forbidden, NotFound.
        """
        request = pb.ClearCacheRequest(namespace=self.namespace, step=step, age=age, cluster=cluster)
        response: pb.ClearCacheResponse = await self._transport.call("ClearCache", request, CALL_TIMEOUT)
        return response

    async def outputs(self, run: str, *, names: Sequence[str] = ()) -> Sequence[pb.OutputsResponse.Located]:
        """The run's results (or those in `names`) and where their bytes lie.

        Raises NotFound for a name that it does not have, Conflict while the run has none yet.
        """
        located = (await self._outputs(run)).outputs
        _refuse_unknown(run, located, names)
        return [item for item in located if not names or item.output.name in names]

    async def _outputs(self, run: str) -> pb.OutputsResponse:
        request = pb.OutputsRequest(namespace=self.namespace, run=run)
        response: pb.OutputsResponse = await self._transport.call("Outputs", request, CALL_TIMEOUT)
        return response

    async def download(
        self, run: str, to: Path, *, names: Sequence[str] = (), patience: float = PATIENCE
    ) -> Sequence[Downloaded]:
        """Save the run's results (or those in `names`) into the directory `to`, straight from the nodes that have them.

        What is there already and right is kept, what is there in part is continued, and a file appears under its
        name only when its BLAKE3 digest is the one that the run recorded. Raises NotFound, DownloadFailed; Expired if
        one of them was to be kept for a while only, and that is over.
        """
        from bdw_fed.client.outputs import (  # brings http.client, for this alone
            PERMIT_SECONDS,
            Source,
            download,
            places,
            refuse_expired,
        )

        answer = await self._outputs(run)
        _refuse_unknown(run, answer.outputs, names)
        refuse_expired(run, answer.outputs, names)
        deadline = time.monotonic() + patience
        while not all(item.addresses or item.output.lost for item in answer.outputs) and time.monotonic() < deadline:
            await self._transport.blocking(partial(time.sleep, _FIRST_PAUSE))  # the node that has it may be coming back
            answer = await self._outputs(run)
        context = self._transport.profile.tls_context()
        permit, asked = answer.permit, time.monotonic()
        saved = []
        found = [each for each in places(answer.outputs, to) if not names or each[0].output.name in names]
        for item, path in sorted(found, key=lambda each: bool(each[0].output.lost)):  # what is there first
            if time.monotonic() > asked + PERMIT_SECONDS:  # it would run out
                permit, asked = (await self._outputs(run)).permit, time.monotonic()
            source = Source(item, self.namespace, run, context, permit)
            saved.append(await self._transport.blocking(partial(download, source, path, patience)))
        return saved


def _refuse_unknown(run: str, located: Iterable[pb.OutputsResponse.Located], names: Sequence[str]) -> None:
    known = {item.output.name for item in located}
    if unknown := set(names) - known:
        has = ", ".join(sorted(known)) or "none yet"
        raise NotFound(f"run {run} has no output {', '.join(sorted(unknown))} (it has: {has})")
