"""Definitions: topologies, steps, workflows, and everything else that is kept by kind and name."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bdw_fed.client.roles import CALL_TIMEOUT, Roles
from bdw_fed.v1 import control_plane_pb2 as pb
from wire.digests import bytes_digest

_CHUNK = 1 << 20
_PAGE = 500
__all__ = ["CALL_TIMEOUT", "Document", "Objects"]


@dataclass(frozen=True)
class Document:
    """One YAML document. `bundle` is the packed archive of the directory that its run.bundle names, if it names one."""

    yaml: str
    file: str = ""
    line: int = 1
    bundle: bytes = b""


class Objects(Roles):
    """The part of the client that is about definitions."""

    async def apply(
        self,
        documents: Iterable[Document | str],
        *,
        dry_run: bool = False,
        expected_revisions: Mapping[str, int] | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[pb.Applied]:
        """Store definitions, all or none; bundles that the hub does not have yet are sent first.

        `expected_revisions` maps "Kind/name" to the revision that must be the newest (0: must not exist).
        Raises Problems (with all that is wrong), Conflict.

            applied = await client.apply([open("workflow.yaml").read()])
        """
        given = [item if isinstance(item, Document) else Document(item) for item in documents]
        if not dry_run:
            await self.put_blobs(item.bundle for item in given if item.bundle)
        request = pb.ApplyRequest(
            namespace=self.namespace,
            documents=[_to_proto(item) for item in given],
            dry_run=dry_run,
            idempotency_key=idempotency_key or uuid.uuid4().hex,
            expected_revisions=expected_revisions or {},
        )
        response: pb.ApplyResponse = await self._transport.call("Apply", request, CALL_TIMEOUT)
        return list(response.applied)

    async def diff(self, documents: Iterable[Document | str]) -> Sequence[pb.DiffResponse.Entry]:
        """What `apply` of the same would change."""
        given = [item if isinstance(item, Document) else Document(item) for item in documents]
        request = pb.DiffRequest(namespace=self.namespace, documents=[_to_proto(item) for item in given])
        response: pb.DiffResponse = await self._transport.call("Diff", request, CALL_TIMEOUT)
        return list(response.entries)

    async def get(self, kind: str, name: str, *, revision: int = 0) -> pb.Object:
        """One object; revision 0 is the newest. Raises NotFound."""
        request = pb.GetRequest(namespace=self.namespace, kind=kind, name=name, revision=revision)
        response: pb.GetResponse = await self._transport.call("Get", request, CALL_TIMEOUT)
        return response.object

    async def list(self, kind: str, *, limit: int = 0) -> Sequence[pb.Object]:
        """All objects of a kind (at most `limit` of them; 0: all), by name."""
        found: list[pb.Object] = []
        token = ""
        while True:
            page = min(_PAGE, limit - len(found)) if limit else _PAGE
            request = pb.ListRequest(namespace=self.namespace, kind=kind, limit=page, page_token=token)
            response: pb.ListResponse = await self._transport.call("List", request, CALL_TIMEOUT)
            found += response.objects
            token = response.next_page_token
            if not token or (limit and len(found) >= limit):
                return found

    async def watch(self, kind: str, *, name: str = "", store_revision: int = 0) -> AsyncIterator[pb.WatchResponse]:
        """Changes of a kind as they happen, from `store_revision` of an earlier answer on (0: from now)."""
        request = pb.WatchRequest(namespace=self.namespace, kind=kind, name=name, store_revision=store_revision)
        changes = self._transport.stream("Watch", request)
        try:
            async for change in changes:
                yield change
        finally:
            await _aclose(changes)

    async def delete(self, kind: str, name: str, *, expected_revision: int = 0) -> None:
        """Remove an object. Raises NotFound, Conflict (it is in use, or has another revision than expected)."""
        request = pb.DeleteRequest(namespace=self.namespace, kind=kind, name=name, expected_revision=expected_revision)
        await self._transport.call("Delete", request, CALL_TIMEOUT)

    async def put_blobs(self, blobs: Iterable[bytes]) -> int:
        """Give the hub large values by content; what it has already is not sent. Returns how many were sent."""
        by_digest = {bytes_digest(blob): blob for blob in blobs}
        if not by_digest:
            return 0
        asked = pb.HasBlobsRequest(namespace=self.namespace, digests=list(by_digest))
        answer: pb.HasBlobsResponse = await self._transport.call("HasBlobs", asked, CALL_TIMEOUT)
        for digest in answer.missing:
            await self._transport.upload("PutBlob", self._pieces(digest, by_digest[digest]))
        return len(answer.missing)

    def _pieces(self, digest: bytes, blob: bytes) -> Iterator[pb.PutBlobRequest]:
        yield pb.PutBlobRequest(namespace=self.namespace, digest=digest, chunk=blob[:_CHUNK])
        for start in range(_CHUNK, len(blob), _CHUNK):
            yield pb.PutBlobRequest(chunk=blob[start : start + _CHUNK])

    async def status(self, *, timeout: float = CALL_TIMEOUT) -> pb.StatusResponse:
        """The clusters and nodes as the hub sees them just now."""
        response: pb.StatusResponse = await self._transport.call(
            "Status", pb.StatusRequest(namespace=self.namespace), timeout
        )
        return response

    async def mark(
        self,
        cluster: str,
        put: Iterable[pb.ClusterTaint] = (),
        take: Iterable[str] = (),
        *,
        empty_by: float = 0.0,
    ) -> pb.MarkClusterResponse:
        """Put taints on a cluster for the time being, take others (KEY or KEY:EFFECT) from it; or only ask for them.

        `empty_by`: Unix time at which runs that may begin again without the cluster do so, if it is draining. The
        answer also names the runs that still have a part there. Raises NotFound.
        """
        request = pb.MarkClusterRequest(cluster=cluster, put=put, take=take, empty_by=empty_by)
        response: pb.MarkClusterResponse = await self._transport.call("MarkCluster", request, CALL_TIMEOUT)
        return response


async def _aclose(iterator: AsyncIterator[object]) -> None:
    """End a call whose answers nobody reads any more."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


def _to_proto(document: Document) -> pb.Document:
    digest = bytes_digest(document.bundle) if document.bundle else b""
    return pb.Document(file=document.file, line=document.line, yaml=document.yaml, bundle=digest)
