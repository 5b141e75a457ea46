"""One watch that is open at the fake server."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from tests.kubernetes.fake.selecting import Selector
from tests.kubernetes.fake.store import Change, Manifest


class Stream:
    """Gets changes from the store, and sends those that its selector sees."""

    def __init__(self, plural: str, namespace: str, selector: Selector) -> None:
        self._plural = plural
        self._namespace = namespace
        self._selector = selector
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._response = web.StreamResponse()
        self._transport: asyncio.Transport | None = None
        self._hushed = False

    def told(self, change: Change) -> None:
        """The store was written to."""
        if change.key.plural != self._plural or self._namespace not in ("", change.key.namespace):
            return
        before = change.before is not None and self._selector.matches(change.before)
        after = change.after is not None and self._selector.matches(change.after)
        if after:
            self._say("MODIFIED" if before else "ADDED", change.after)
        elif before:
            assert change.before is not None
            meta = {**change.before["metadata"], "resourceVersion": str(change.version)}
            self._say("DELETED", {**change.before, "metadata": meta})

    def bookmark(self, version: int) -> None:
        """Everything up to this version was said."""
        self._say("BOOKMARK", {"metadata": {"resourceVersion": str(version), "creationTimestamp": None}})

    def finish(self) -> None:
        """End in good order."""
        self._lines.put_nowait(None)

    def hush(self) -> None:
        """Say nothing any more."""
        self._hushed = True

    def cut(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()
        self._lines.put_nowait(None)

    def _say(self, type: str, object: Manifest | None) -> None:
        self._lines.put_nowait(json.dumps({"type": type, "object": object}).encode() + b"\n")

    async def serve(self, request: web.Request, seconds: float) -> web.StreamResponse:
        """Send until the time is over, or somebody ends it."""
        self._transport = request.transport
        try:
            await self._response.prepare(request)
            async with asyncio.timeout(seconds):
                while (line := await self._lines.get()) is not None:
                    if not self._hushed:
                        await self._response.write(line)
        except (TimeoutError, ConnectionError):
            pass
        return self._response
