"""A node's data server: gives out its units, and takes those that it expects.

    GET, HEAD /v1/{namespace}/{run}/{unit hex}   with Range; ETag is the digest
    HEAD      of an expected unit                Upload-Offset tells where to go on
    PUT       of an expected unit                Content-Range: bytes START-END/TOTAL

Both ends show certificates of the federation; nodes, agents and users may read, nodes may write what is expected of
their cluster. Nothing of a request becomes a path: names are looked up in the store's index.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO

from aiohttp import ClientError, web

from cluster_agent.data.base import Content, Store, UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.data.transfer.arrivals import Arrivals, PushRefusedError
from cluster_agent.data.transfer.client import UPLOAD_OFFSET
from wire.digests import ID_BYTES
from wire.identity.peers import UnknownPeerError, identity_of_tls
from wire.identity.roles import Identity, Role

READ_BYTES = 512 << 10
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_READERS = frozenset([Role.NODE, Role.AGENT, Role.USER, Role.OPERATOR])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DataServer:
    """Serves `store`, and hands pushes to `arrivals`."""

    def __init__(self, store: Store, arrivals: Arrivals, context: ssl.SSLContext) -> None:
        self._store = store
        self._arrivals = arrivals
        self._context = context
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. OSError if it is taken."""
        app = web.Application()
        path = "/v1/{namespace}/{run}/{unit}"
        app.router.add_route("GET", path, self._get)
        app.router.add_route("HEAD", path, self._get)
        app.router.add_route("PUT", path, self._put)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self._context, backlog=512)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening and end the connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self._caller(request, _READERS)
        key = _key(request)
        try:
            content = self._store.find(key)
        except DataError as error:
            offset = self._arrivals.offset(key) if request.method == "HEAD" else None
            if offset is None:
                raise web.HTTPNotFound(text=str(error)) from None
            return web.Response(headers={UPLOAD_OFFSET: str(offset)})
        return await self._send(request, content)

    async def _send(self, request: web.Request, content: Content) -> web.StreamResponse:
        headers = {"ETag": f'"{content.digest.hex()}"', "Accept-Ranges": "bytes"}
        start, end, status = _wanted(request.headers.get("Range"), content.size)
        if status == 416:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{content.size}", **headers})
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_type = "application/octet-stream"
        response.content_length = end - start
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        if content.data is not None:
            await response.prepare(request)
            await response.write(content.data[start:end])
            return response
        with content.file.open("rb", buffering=0) as file:
            await response.prepare(request)
            file.seek(start)
            if not await _copy(file, end - start, response) and request.transport is not None:
                request.transport.abort()  # a short answer must not look whole
        return response

    async def _put(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request, frozenset([Role.NODE]))
        told = _CONTENT_RANGE.fullmatch(request.headers.get("Content-Range", ""))
        if told is None:
            raise web.HTTPBadRequest(text="Content-Range: expected bytes START-END/TOTAL")
        start, total = int(told[1] or 0), int(told[3])
        body: AsyncIterator[bytes] = request.content.iter_chunked(READ_BYTES)
        try:
            complete = await self._arrivals.receive(_key(request), caller.cluster, start, total, body)
        except PushRefusedError as refused:
            return _refusal(refused.status, str(refused), refused.offset)
        except (ConnectionError, ClientError):
            return _refusal(400, "the connection broke")  # nobody will read it; what has come is kept
        except OSError as error:
            return _refusal(507, str(error))
        return web.Response(status=201 if complete else 202)

    def _caller(self, request: web.Request, allowed: frozenset[Role]) -> Identity:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        try:
            identity = identity_of_tls(certificate)
        except (UnknownPeerError, ValueError) as error:
            raise web.HTTPUnauthorized(text=str(error)) from None
        if identity.role not in allowed:
            raise web.HTTPForbidden(text=f"{identity} may not do this: it is for {', '.join(sorted(allowed))}")
        return identity


def _refusal(status: int, text: str, offset: int = 0) -> web.Response:
    response = web.Response(status=status, text=text, headers={UPLOAD_OFFSET: str(offset)})
    response.force_close()  # the rest of the body is not read
    return response


def _key(request: web.Request) -> UnitKey:
    info = request.match_info
    try:
        unit = bytes.fromhex(info["unit"])
    except ValueError:
        unit = b""
    if len(unit) != ID_BYTES:
        raise web.HTTPNotFound(text="no unit has such an id")
    return UnitKey(info["namespace"], info["run"], unit)


def _wanted(header: str | None, size: int) -> tuple[int, int, int]:
    """(start, end exclusive, HTTP status) that a Range header asks for; one range, others are ignored as allowed."""
    told = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if told is None or told[0] == "bytes=-":
        return 0, size, 200
    if not told[1]:
        length = min(int(told[2]), size)
        return (size - length, size, 206) if length else (0, 0, 416)
    start = int(told[1])
    end = min(int(told[2]) + 1, size) if told[2] else size
    return (start, end, 206) if start < end else (0, 0, 416)


async def _copy(file: BinaryIO, length: int, response: web.StreamResponse) -> bool:
    """Whether all of it could be sent: the other end may go, the file may end early."""
    while length:
        block = await asyncio.to_thread(file.read, min(READ_BYTES, length))
        if not block:
            return False
        try:
            await response.write(block)
        except ConnectionResetError:
            return False
        length -= len(block)
    return True
