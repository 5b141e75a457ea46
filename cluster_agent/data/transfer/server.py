"""A node's data server: gives out its units, and takes those that it expects.

    GET, HEAD /v1/{namespace}/{run}/{unit hex}   with Range; ETag is the digest
    HEAD      of an expected unit                Upload-Offset tells where to go on
    PUT       of an expected unit                Content-Range: bytes START-END/TOTAL
    POST      /v1/units                          many small units in one answer, see `many`
    POST      /v1/plain                          a port without TLS and a token for it, see `plain`

Members show certificates of the federation; nodes may write what is expected of their cluster, and who may read is said
in `readers`: a user without a certificate, too, if the hub permits it. Nothing of a request becomes a path: names are
looked up in the store's index, on the event loop, which owns it; threads send what was found and receive what comes
(see `listener`).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import unquote

import structlog

from cluster_agent.data.base import Content, Store, UnitKey
from cluster_agent.data.errors import DataError, UnitMissingError
from cluster_agent.data.shared.errors import SharedStoreError
from cluster_agent.data.transfer import many
from cluster_agent.data.transfer.arrivals import Arrivals, PushRefusedError
from cluster_agent.data.transfer.channel import BrokenError, Channel, head
from cluster_agent.data.transfer.client import UPLOAD_OFFSET
from cluster_agent.data.transfer.listener import Listener
from cluster_agent.data.transfer.plain import Passes
from cluster_agent.data.transfer.readers import ReaderRefusedError, Readers
from wire.digests import ID_BYTES
from wire.identity.peers import UnknownPeerError, identity_of_tls
from wire.identity.revocations import Revocations
from wire.identity.roles import Identity, Role

_THREADS = 64
_REFUSALS = (401, 403)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class _AnswerError(Exception):
    """What is answered in place of what was asked for."""

    def __init__(self, status: int, text: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True)
class _Request:
    channel: Channel
    method: str
    path: tuple[str, ...]
    headers: dict[str, str]

    @property
    def length(self) -> int:
        """Bytes of the body."""
        told = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not told.isdecimal():
            raise _AnswerError(411, "expected a Content-Length")
        return int(told)


class DataServer:
    """Serves `store` to `readers`, and hands pushes to `arrivals`. Without TLS it serves the clusters of `trust`.

    Whose certificate is among the `revocations` is refused, with each request. What goes without TLS does so at
    `plain_port`, 0 = any; whoever is told of the port dials it where it has found the other one.
    """

    def __init__(
        self,
        store: Store,
        arrivals: Arrivals,
        context: ssl.SSLContext,
        readers: Readers,
        revocations: Revocations | None = None,
        plain_port: int = 0,
    ) -> None:
        self._store = store
        self._arrivals = arrivals
        self._readers = readers
        self._context = context
        context.verify_mode = ssl.CERT_OPTIONAL  # one that is shown must be good; who shows none needs a permit
        self._revocations = revocations or Revocations()
        self._host = ""
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="serve")
        self._listener: Listener | None = None
        self._plain: Listener | None = None
        self._plain_port = self._plain_wanted = plain_port
        self._passes = Passes()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. OSError if it is taken."""
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._listener = Listener(self._context, self._executor, self._answer)
        return self._listener.start(host, port)

    def let_in(self, sock: socket.socket) -> None:
        """Serve a connection that has come over a relay; it begins with TLS, like all others."""
        assert self._listener is not None
        self._listener.let_in(sock)

    async def trust(self, clusters: frozenset[str]) -> None:
        """Offer transfers without TLS to these clusters, to which the topology has trusted links, and to no others."""
        self._passes.trusted = clusters
        if clusters and self._plain is None:
            plain = Listener(None, self._executor, self._answer)
            self._plain_port = plain.start(self._host, self._plain_wanted)
            self._plain = plain
        elif not clusters and self._plain is not None:
            plain, self._plain = self._plain, None
            await plain.stop()

    async def stop(self) -> None:
        """Stop listening and end the connections."""
        for listener in (self._listener, self._plain):
            if listener is not None:
                await listener.stop()
        self._executor.shutdown()

    # ------------------------------------------------------------------------------------------- in a thread

    def _answer(self, channel: Channel) -> bool:
        """Answer the next request; whether there may be another. OSError."""
        told = channel.receive_head()
        if told is None:
            return False
        first, headers = told
        try:
            self._handle(_parsed(channel, first, headers))
        except _AnswerError as error:
            if error.status in _REFUSALS:
                _log.warning("a caller was refused", sender=channel.sender, code=int(error.status), reason=str(error))
            unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
            more = {"Connection": "close", **error.headers} if unread else error.headers
            _send(channel, error.status, more, str(error).encode(), method=first.partition(" ")[0])
            if unread:
                channel.finish()
                return False
        return headers.get("connection", "").lower() != "close"

    def _handle(self, request: _Request) -> None:
        match request.method, request.path:
            case ("POST", ("v1", "units")):
                self._many(request)
            case ("PUT", ("v1", namespace, run, unit)):
                self._put(request, _key(namespace, run, unit))
            case _ if request.length:
                raise _AnswerError(400, "no body was expected")
            case ("POST", ("v1", "plain")):
                self._offer_plain(request)
            case (("GET" | "HEAD"), ("v1", namespace, run, unit)):
                self._get(request, _key(namespace, run, unit))
            case _:
                raise _AnswerError(404, "there is no such address")

    def _get(self, request: _Request, key: UnitKey) -> None:
        caller = self._caller(request)
        found, offset = self._on_loop(self._find(key))
        if found is not None or offset is not None:
            self._may_read(request, caller, key, found)
            self._assure(request, caller, key, found)
        elif caller is None:
            raise _AnswerError(401, "who shows no certificate shows the hub's permit")
        if found is None:
            if request.method == "GET" or offset is None:
                raise _AnswerError(404, "the unit is not here")
            _send(request.channel, 200, {UPLOAD_OFFSET: str(offset)})
            return
        content, file = found
        try:
            headers = {"ETag": f'"{content.digest.hex()}"', "Accept-Ranges": "bytes"}
            start, end, status = _wanted(request.headers.get("range"), content.size)
            if status == 416:
                raise _AnswerError(416, "", {"Content-Range": f"bytes */{content.size}", **headers})
            if status == 206:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
            headers["Content-Type"] = "application/octet-stream"
            _send(request.channel, status, headers, length=end - start)
            if request.method == "HEAD":
                return
            if content.data is not None:
                request.channel.send(content.data[start:end])
            elif not request.channel.send_file(file, start, end - start):
                raise BrokenError("the file became shorter")  # a short answer must not look whole
        finally:
            if file >= 0:
                os.close(file)

    async def _find(self, key: UnitKey) -> tuple[tuple[Content, int] | None, int | None]:
        """A unit's content and, if it is large, its open file, which stays whole when the unit is freed meanwhile.

        Of one that is not here but expected, where it goes on.
        """
        try:
            await self._store.bring([key])
            content = self._store.find(key)
            file = -1 if content.path is None else os.open(content.path, os.O_RDONLY | os.O_CLOEXEC)
        except SharedStoreError as error:  # it is not lost: who asks shall ask again
            raise _AnswerError(503, str(error)) from error
        except (DataError, FileNotFoundError):
            return None, self._arrivals.offset(key)
        return (content, file), None

    def _assure(
        self, request: _Request, caller: Identity | None, key: UnitKey, found: tuple[Content, int] | None
    ) -> None:
        """Nobody is given damaged bytes who can't tell us of it: other nodes compare, and their coordinator asks.

        Who has got wrong ones asks again with `no-cache`: then all of them are read before.
        """
        doubted = "no-cache" in request.headers.get("cache-control", "")
        if found is None or not (doubted or caller is None or caller.role is Role.USER):
            return
        try:
            self._on_loop(self._store.assure([key], anew=doubted))
        except (DataError, OSError) as error:
            if found[1] >= 0:
                os.close(found[1])
            raise _AnswerError(404 if isinstance(error, UnitMissingError) else 503, str(error)) from error

    def _put(self, request: _Request, key: UnitKey) -> None:
        caller = self._caller(request)
        if caller is None or caller.role is not Role.NODE:
            raise _AnswerError(403, f"{caller or 'nobody known'} may not do this: it is for node")
        told = _CONTENT_RANGE.fullmatch(request.headers.get("content-range", ""))
        if told is None:
            raise _AnswerError(400, "Content-Range: expected bytes START-END/TOTAL")
        start, total = int(told[1] or 0), int(told[3])
        pieces = self._pieces(request.channel, request.length)
        try:
            complete = self._on_loop(self._arrivals.receive(key, caller.cluster, start, total, pieces))
        except PushRefusedError as refused:
            raise _AnswerError(refused.status, str(refused), {UPLOAD_OFFSET: str(refused.offset)}) from None
        except ConnectionError:
            raise
        except OSError as error:
            raise _AnswerError(507, str(error)) from None
        _send(request.channel, 201 if complete else 202, {}, b"")

    async def _pieces(self, channel: Channel, length: int) -> AsyncIterator[memoryview]:
        """The body of a request, received in a thread of its own turn by turn with whoever takes it."""
        pieces = channel.pieces(length)
        while (piece := await self._loop.run_in_executor(None, next, pieces, None)) is not None:
            yield piece

    def _many(self, request: _Request) -> None:
        caller = self._caller(request)
        if caller is None:
            raise _AnswerError(401, "who shows no certificate is served one unit at a time")
        if request.length > many.REQUEST_BYTES:
            raise _AnswerError(413, "too many units for one request")
        try:
            wanted = many.decode_request(request.channel.receive(request.length))
        except ValueError as error:
            raise _AnswerError(400, str(error)) from None

        given = [key if self._is_given(request, caller, key) else None for key in wanted[: many.AT_ONCE]]

        async def collect() -> bytes:
            return many.answer(self._store, given)

        _send(request.channel, 200, {"Content-Type": "application/msgpack"}, self._on_loop(collect()))

    def _offer_plain(self, request: _Request) -> None:
        caller = self._caller(request)
        certified = caller is not None and request.channel.certificate is not None
        token = self._passes.issue(caller) if caller is not None and certified and self._plain else ""
        if not token:
            raise _AnswerError(404, "the topology has no trusted link between us")
        _send(request.channel, 200, {"Content-Type": "text/plain"}, f"{self._plain_port} {token}".encode())

    def _is_given(self, request: _Request, caller: Identity, key: UnitKey) -> bool:
        try:
            self._judge(caller, request.headers.get("authorization", ""), key.namespace, key.run)
        except _AnswerError as error:
            if error.status in _REFUSALS:
                _log.warning(
                    "a caller was refused", sender=request.channel.sender, code=int(error.status), reason=str(error)
                )
            return False  # asked for by itself, it is said why
        return True

    def _may_read(
        self, request: _Request, caller: Identity | None, key: UnitKey, found: tuple[Content, int] | None
    ) -> None:
        try:
            self._judge(caller, request.headers.get("authorization", ""), key.namespace, key.run)
        except _AnswerError:
            if found is not None and found[1] >= 0:
                os.close(found[1])
            raise

    def _judge(self, caller: Identity | None, authorization: str, namespace: str, run: str) -> None:
        try:
            self._readers.judge(caller, authorization, namespace, run)
        except ReaderRefusedError as refused:
            raise _AnswerError(refused.status, str(refused)) from None

    def _caller(self, request: _Request) -> Identity | None:
        """Who asks, by certificate or, without TLS, by the token for that; None: somebody over TLS without either."""
        channel = request.channel
        if channel.is_tls and not channel.certificate:
            return None
        try:
            if channel.certificate:
                identity = identity_of_tls(dict(channel.certificate))
            else:
                identity = self._passes.holder(request.headers.get("authorization", ""))
        except (UnknownPeerError, ValueError) as error:
            raise _AnswerError(401, str(error)) from None
        if refusal := self._revocations.refusal(identity):
            raise _AnswerError(401, refusal)
        return identity

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Done by the event loop, while this thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _parsed(channel: Channel, first: str, headers: dict[str, str]) -> _Request:
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _AnswerError(400, "expected HTTP/1.1")
    path = tuple(unquote(part) for part in target.partition("?")[0].split("/")[1:])
    return _Request(channel, method, path, headers)


def _send(
    channel: Channel, status: int, headers: dict[str, str], body: bytes = b"", *, length: int = -1, method: str = ""
) -> None:
    phrase = HTTPStatus(status).phrase
    length = len(body) if length < 0 else length
    started = head(f"HTTP/1.1 {status} {phrase}", {"Content-Length": str(length), **headers})
    channel.send(started if method == "HEAD" else started + body)


def _key(namespace: str, run: str, unit: str) -> UnitKey:
    try:
        name = bytes.fromhex(unit)
    except ValueError:
        name = b""
    if len(name) != ID_BYTES:
        raise _AnswerError(404, "no unit has such an id")
    return UnitKey(namespace, run, name)


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
