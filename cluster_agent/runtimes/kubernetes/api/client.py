"""The verbs of the API on the few kinds that are used: get, list, create, apply, patch, delete, logs, watch.

A manifest goes out as a plain mapping, an object comes back as a struct. Every call ends: with a result, or within its
patience with an `ApiError`. Who wants to be sure that something is created once gives it a name: a second creation
is `AlreadyExists`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, Self

import msgspec

from cluster_agent.runtimes.kubernetes.api.configuration import Source, load
from cluster_agent.runtimes.kubernetes.api.connection import Connection, Request
from cluster_agent.runtimes.kubernetes.api.errors import Gone, Unavailable
from cluster_agent.runtimes.kubernetes.api.objects.kinds import PODS, Items, Kind, ObjectT
from cluster_agent.runtimes.kubernetes.api.objects.meta import WatchEvent
from cluster_agent.runtimes.kubernetes.api.retrying import Patience, ResultT, retried

PAGE: Final = 500
_EVENT: Final = msgspec.json.Decoder(WatchEvent)
_PATCHES: Final = {"merge": "application/merge-patch+json", "strategic": "application/strategic-merge-patch+json"}


class Client:
    """Speaks to one API server. `close` it."""

    def __init__(self, connection: Connection, patience: Patience | None = None) -> None:
        """`Client.connect` makes one from a kubeconfig or a pod's service account."""
        self._connection = connection
        self._patience = patience or Patience()

    @classmethod
    async def connect(cls, source: Source, patience: Patience | None = None) -> Self:
        """A client of the server that `source` names. Nothing is sent yet."""
        return cls(Connection(await load(source), renew=lambda: load(source)), patience)

    @property
    def server(self) -> str:
        """The server's address."""
        return self._connection.access.server

    @property
    def namespace(self) -> str:
        """The namespace that the configuration names."""
        return self._connection.access.namespace

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def get(self, kind: Kind[ObjectT], name: str, namespace: str = "") -> ObjectT:
        """One object."""
        request = Request("GET", kind.path(namespace, name), f"get {_named(kind, name, namespace)}")
        return _decoded(kind.decoder, await self._answer(request), request)

    async def page(
        self,
        kind: Kind[ObjectT],
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        token: str = "",
    ) -> Items[ObjectT]:
        """One page of a list; `Gone` if the token for the next page is too old."""
        query = {"labelSelector": labels, "fieldSelector": fields, "continue": token, "limit": str(limit or "")}
        request = Request("GET", kind.path(namespace), f"list {_named(kind, '', namespace)}", _present(query))
        return _decoded(kind.list_decoder, await self._answer(request), request)

    async def list(
        self, kind: Kind[ObjectT], namespace: str = "", *, labels: str = "", fields: str = "", limit: int = PAGE
    ) -> list[ObjectT]:
        """All objects, page by page, as they were at one moment."""
        found: list[ObjectT] = []
        token = ""
        while True:
            try:
                page = await self.page(kind, namespace, labels=labels, fields=fields, limit=limit, token=token)
            except Gone:
                if not token:
                    raise
                # The moment has been compacted away between two pages: the list is asked for again, in one piece.
                found, token, limit = [], "", 0
                continue
            found += page.items or []
            token = page.metadata.continue_
            if not token:
                return found

    async def create(self, kind: Kind[ObjectT], manifest: Mapping[str, Any], namespace: str = "") -> ObjectT:
        """Create the object; AlreadyExists if its name is taken, maybe by an earlier try that seemed to fail."""
        name = manifest["metadata"].get("name", "")
        did = f"create {_named(kind, name, namespace)}"
        request = Request("POST", kind.path(namespace), did, body=msgspec.json.encode(kind.complete(dict(manifest))))
        return _decoded(kind.decoder, await self._answer(request, repeatable=False), request)

    async def apply(
        self,
        kind: Kind[ObjectT],
        manifest: Mapping[str, Any],
        namespace: str = "",
        *,
        manager: str,
        force: bool = False,
    ) -> ObjectT:
        """Server-side apply: the object gets these fields, owned by `manager`; Conflict if others own some."""
        name = manifest["metadata"]["name"]
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        request = Request(
            "PATCH",
            kind.path(namespace, name),
            f"apply {_named(kind, name, namespace)}",
            query,
            msgspec.json.encode(kind.complete(dict(manifest))),
            "application/apply-patch+yaml",  # JSON is YAML, and every server takes this type
        )
        return _decoded(kind.decoder, await self._answer(request), request)

    async def patch(
        self,
        kind: Kind[ObjectT],
        name: str,
        changes: Mapping[str, Any],
        namespace: str = "",
        *,
        type: Literal["merge", "strategic"] = "merge",
    ) -> ObjectT:
        """Change these fields of the object, whoever owns them. Both types may be repeated without harm."""
        request = Request(
            "PATCH",
            kind.path(namespace, name),
            f"patch {_named(kind, name, namespace)}",
            body=msgspec.json.encode(changes),
            content_type=_PATCHES[type],
        )
        return _decoded(kind.decoder, await self._answer(request), request)

    async def delete(
        self,
        kind: Kind[ObjectT],
        name: str,
        namespace: str = "",
        *,
        grace: int | None = None,
        uid: str = "",
        propagation: Literal["", "Background", "Foreground", "Orphan"] = "",
    ) -> None:
        """Ask for its deletion; with `uid` only of that very object, else Conflict. NotFound if it is not there.

        A pod goes when its containers have ended: within `grace` seconds, or its spec's. 0 = don't wait for them.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid:
            options["preconditions"] = {"uid": uid}
        if propagation:
            options["propagationPolicy"] = propagation
        did = f"delete {_named(kind, name, namespace)}"
        await self._answer(Request("DELETE", kind.path(namespace, name), did, body=msgspec.json.encode(options)))

    async def logs(
        self,
        pod: str,
        namespace: str,
        *,
        container: str = "",
        tail: int = 100,
        previous: bool = False,
        most: int = 65536,
    ) -> str:
        """The last lines that a container wrote, at most so many bytes; `previous` = before its last restart."""
        query = {
            "container": container,
            "tailLines": str(tail),
            "limitBytes": str(most),
            "previous": "true" if previous else "",
        }
        did = f"read the log of {_named(PODS, pod, namespace)}"
        answer = await self._answer(Request("GET", PODS.path(namespace, pod, "log"), did, _present(query)))
        return answer.decode("utf-8", "replace")

    @asynccontextmanager
    async def watch(
        self,
        kind: Kind[ObjectT],
        namespace: str,
        version: str,
        *,
        labels: str = "",
        fields: str = "",
        seconds: int,
        timeout: float,
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """What changes after `version`, for `seconds`, with bookmarks; one try, whose opening may take `timeout`."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            "labelSelector": labels,
            "fieldSelector": fields,
        }
        request = Request("GET", kind.path(namespace), f"watch {_named(kind, '', namespace)}", _present(query))
        async with self._connection.lines(request, timeout) as lines:
            yield _events(lines, request)

    async def _answer(self, request: Request, *, repeatable: bool = True) -> bytes:
        return await retried(
            lambda seconds: self._connection.exchange(request, seconds), repeatable=repeatable, patience=self._patience
        )


async def _events(lines: AsyncIterator[bytes], request: Request) -> AsyncIterator[WatchEvent]:
    async for line in lines:
        yield _decoded(_EVENT, line, request)


def _decoded(decoder: msgspec.json.Decoder[ResultT], answer: bytes | msgspec.Raw, request: Request) -> ResultT:
    try:
        return decoder.decode(answer)
    except msgspec.DecodeError as error:
        raise Unavailable(f"can't {request.did}: the answer is not what an API server says: {error}") from error


def _present(query: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in query.items() if value}


def _named(kind: Kind[Any], name: str, namespace: str) -> str:
    what = f"{kind.plural}/{name}" if name else kind.plural
    if not kind.namespaced:
        return what
    return f"{what} in {namespace}" if namespace else f"{what} in all namespaces"
