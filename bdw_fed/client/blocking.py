"""`SyncClient`: the hub, from a program without an event loop; each method blocks until its answer is there.

Every method is the one of the same name in `Client`, driven to its end at once (see bdw_fed.client.transport).
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from bdw_fed.client.connection import Profile, find_profile
from bdw_fed.client.objects import CALL_TIMEOUT, Document, _aclose
from bdw_fed.client.runs import PATIENCE, Runs
from bdw_fed.client.transport import BlockingTransport, run_now
from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import membership_pb2 as membership
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client.outputs import Downloaded

T = TypeVar("T")


def _each(items: AsyncIterator[T]) -> Iterator[T]:
    """The items of a blocking stream; the call ends when the iterator is closed or collected."""
    try:
        while True:
            try:
                item = run_now(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_now(_aclose(items))


class SyncClient:
    """The hub's services as blocking methods. See `Client` for the arguments; one client belongs to one thread.

    with SyncClient() as client:
        run = client.submit("delays", {"late_minutes": 30}).run
        for state in client.watch_run(run.name):
            print(state.message)
    """

    def __init__(
        self, profile: Profile | None = None, *, state: Path | None = None, namespace: str | None = None
    ) -> None:
        self.profile = profile or find_profile(state)
        self.namespace = namespace or self.profile.namespace
        self._transport = BlockingTransport(self.profile)
        self._runs = Runs(self._transport, self.namespace)

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        run_now(self._transport.close())

    def apply(
        self,
        documents: Iterable[Document | str],
        *,
        dry_run: bool = False,
        expected_revisions: Mapping[str, int] | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[pb.Applied]:
        """See Client.apply."""
        return run_now(
            self._runs.apply(
                documents,
                dry_run=dry_run,
                expected_revisions=expected_revisions,
                idempotency_key=idempotency_key,
            )
        )

    def diff(self, documents: Iterable[Document | str]) -> Sequence[pb.DiffResponse.Entry]:
        """See Client.diff."""
        return run_now(self._runs.diff(documents))

    def get(self, kind: str, name: str, *, revision: int = 0) -> pb.Object:
        """See Client.get."""
        return run_now(self._runs.get(kind, name, revision=revision))

    def list(self, kind: str, *, limit: int = 0) -> Sequence[pb.Object]:
        """See Client.list."""
        return run_now(self._runs.list(kind, limit=limit))

    def watch(self, kind: str, *, name: str = "", store_revision: int = 0) -> Iterator[pb.WatchResponse]:
        """See Client.watch."""
        return _each(self._runs.watch(kind, name=name, store_revision=store_revision))

    def delete(self, kind: str, name: str, *, expected_revision: int = 0) -> None:
        """See Client.delete."""
        run_now(self._runs.delete(kind, name, expected_revision=expected_revision))

    def put_blobs(self, blobs: Iterable[bytes]) -> int:
        """See Client.put_blobs."""
        return run_now(self._runs.put_blobs(blobs))

    def grant_role(
        self, subject: str, role: access_pb2.Role.ValueType, *, namespace: str | None = None
    ) -> access_pb2.RoleBinding:
        """See Client.grant_role."""
        return run_now(self._runs.grant_role(subject, role, namespace=namespace))

    def revoke_role(self, subject: str, *, namespace: str | None = None) -> None:
        """See Client.revoke_role."""
        run_now(self._runs.revoke_role(subject, namespace=namespace))

    def roles(self, *, namespace: str | None = None) -> Sequence[access_pb2.RoleBinding]:
        """See Client.roles."""
        return run_now(self._runs.roles(namespace=namespace))

    def audit(
        self, *, namespace: str | None = None, user: str = "", since: float = 0.0, refused: bool = False, limit: int = 0
    ) -> pb.ReadAuditResponse:
        """See Client.audit."""
        asked = self._runs.audit(namespace=namespace, user=user, since=since, refused=refused, limit=limit)
        return run_now(asked)

    def cached(self, *, step: str = "", cluster: str = "") -> pb.ListCacheResponse:
        """See Client.cached."""
        return run_now(self._runs.cached(step=step, cluster=cluster))

    def clear_cache(self, *, step: str = "", age: float = 0.0, cluster: str = "") -> pb.ClearCacheResponse:
        """See Client.clear_cache."""
        return run_now(self._runs.clear_cache(step=step, age=age, cluster=cluster))

    def status(self, *, timeout: float = CALL_TIMEOUT) -> pb.StatusResponse:
        """See Client.status."""
        return run_now(self._runs.status(timeout=timeout))

    def renew_certificate(self) -> datetime.datetime:
        """See Client.renew_certificate."""
        return run_now(self._runs.renew_certificate())

    def create_token(
        self, cluster: str, *, time_to_live: float = 3600.0, needs_acceptance: bool = False
    ) -> membership.CreateTokenResponse:
        """See Client.create_token."""
        made = self._runs.create_token(cluster, time_to_live=time_to_live, needs_acceptance=needs_acceptance)
        return run_now(made)

    def tokens(self) -> Sequence[membership.Token]:
        """See Client.tokens."""
        return run_now(self._runs.tokens())

    def delete_token(self, token: str) -> None:
        """See Client.delete_token."""
        run_now(self._runs.delete_token(token))

    def accept_cluster(self, cluster: str, *, key: str = "") -> membership.Token:
        """See Client.accept_cluster."""
        return run_now(self._runs.accept_cluster(cluster, key=key))

    def revoke_cluster(self, cluster: str) -> None:
        """See Client.revoke_cluster."""
        run_now(self._runs.revoke_cluster(cluster))

    def revoke_node(self, cluster: str, node: str) -> bool:
        """See Client.revoke_node."""
        return run_now(self._runs.revoke_node(cluster, node))

    def mark(
        self,
        cluster: str,
        put: Iterable[pb.ClusterTaint] = (),
        take: Iterable[str] = (),
        *,
        empty_by: float = 0.0,
    ) -> pb.MarkClusterResponse:
        """See Client.mark."""
        return run_now(self._runs.mark(cluster, put, take, empty_by=empty_by))

    def submit(
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
        """See Client.submit."""
        return run_now(
            self._runs.submit(
                workflow,
                parameters,
                name=name,
                topology=topology,
                dry_run=dry_run,
                idempotency_key=idempotency_key,
                expected_workflow_revision=expected_workflow_revision,
                no_cache=no_cache,
            )
        )

    def watch_run(self, run: str, *, patience: float = PATIENCE, timeout: float | None = None) -> Iterator[model.Run]:
        """See Client.watch_run."""
        return _each(self._runs.watch_run(run, patience=patience, timeout=timeout))

    def get_run(self, run: str) -> model.Run:
        """See Client.get_run."""
        return run_now(self._runs.get_run(run))

    def wait(self, run: str, *, timeout: float | None = None) -> model.Run:
        """See Client.wait."""
        return run_now(self._runs.wait(run, timeout=timeout))

    def cancel(self, run: str, *, reason: str = "") -> model.Run:
        """See Client.cancel."""
        return run_now(self._runs.cancel(run, reason=reason))

    def retry(self, run: str) -> model.Run:
        """See Client.retry."""
        return run_now(self._runs.retry(run))

    def resubmit(
        self,
        run: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        idempotency_key: str | None = None,
        no_cache: bool = False,
    ) -> pb.SubmitResponse:
        """See Client.resubmit."""
        return run_now(
            self._runs.resubmit(run, parameters, name=name, idempotency_key=idempotency_key, no_cache=no_cache)
        )

    def suspend(self, run: str) -> model.Run:
        """See Client.suspend."""
        return run_now(self._runs.suspend(run))

    def resume(self, run: str) -> model.Run:
        """See Client.resume."""
        return run_now(self._runs.resume(run))

    def explain(self, *, run: str = "", workflow: str = "", parameters: Mapping[str, Any] | None = None) -> model.Plan:
        """See Client.explain."""
        return run_now(self._runs.explain(run=run, workflow=workflow, parameters=parameters))

    def describe(self, run: str) -> pb.DescribeRunResponse:
        """See Client.describe."""
        return run_now(self._runs.describe(run))

    def logs(
        self, run: str, *, step: str = "", cluster: str = "", task: bytes = b"", follow: bool = False
    ) -> Iterator[pb.LogsResponse]:
        """See Client.logs."""
        return _each(self._runs.logs(run, step=step, cluster=cluster, task=task, follow=follow))

    def events(self, run: str = "", *, follow: bool = False) -> Iterator[model.Event]:
        """See Client.events."""
        return _each(self._runs.events(run, follow=follow))

    def outputs(self, run: str, *, names: Sequence[str] = ()) -> Sequence[pb.OutputsResponse.Located]:
        """See Client.outputs."""
        return run_now(self._runs.outputs(run, names=names))

    def download(
        self, run: str, to: Path, *, names: Sequence[str] = (), patience: float = PATIENCE
    ) -> Sequence[Downloaded]:
        """See Client.download."""
        return run_now(self._runs.download(run, to, names=names, patience=patience))
