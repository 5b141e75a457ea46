"""What a data server answers about units: it gives out those that are here, and takes those that are expected.

Threads answer. What is here is found on the event loop, which owns the store's index; a large unit's file is opened
there, and stays whole when the unit is freed meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from typing import Any, NamedTuple, TypeVar

from cluster_agent.data.base import Content, Store, UnitKey
from cluster_agent.data.errors import DataError, UnitMissingError
from cluster_agent.data.shared.errors import SharedStoreError
from cluster_agent.data.transfer import many
from cluster_agent.data.transfer.arrival import PushRefusedError
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.callers import Callers, note_refusal
from cluster_agent.data.transfer.channel import BrokenError, Channel
from cluster_agent.data.transfer.connections import UPLOAD_OFFSET
from cluster_agent.data.transfer.requests import AnswerError, Request
from wire.identity.roles import Identity, Role

T = TypeVar("T")


class _Found(NamedTuple):
    """A unit's content, and its open file if it is large, else -1."""

    content: Content
    file: int


class Answers:
    """Answers about the units of `store` and of `arrivals`, which live on `loop`. AnswerError, OSError."""

    def __init__(self, store: Store, arrivals: Arrivals, callers: Callers, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._arrivals = arrivals
        self._callers = callers
        self._loop = loop

    def get(self, request: Request, key: UnitKey) -> None:
        """Give a unit, or the part of it that is asked for; of one that is expected it is told how much is here."""
        caller = self._callers.of(request)
        found, offset = self._on_loop(self._find(key))
        try:
            if found is not None or offset is not None:
                self._callers.may_read(request, caller, key.namespace, key.run)
            elif caller is None:
                raise AnswerError(401, "who shows no certificate shows the hub's permit")
            if found is not None:
                self._assure(request, caller, key)
                _give(request, found)
            elif request.method == "GET" or offset is None:
                raise AnswerError(404, "the unit is not here")
            else:
                request.answer(200, {UPLOAD_OFFSET: str(offset)})
        finally:
            if found is not None and found.file >= 0:
                os.close(found.file)

    def put(self, request: Request, key: UnitKey) -> None:
        """Take a part of a unit that is expected."""
        caller = self._callers.node(request)
        start, total = request.part()
        pieces = self._pieces(request.channel, request.length)
        try:
            complete = self._on_loop(self._arrivals.receive(key, caller.cluster, start, total, pieces))
        except PushRefusedError as refused:
            raise AnswerError(refused.status, str(refused), {UPLOAD_OFFSET: str(refused.offset)}) from None
        except ConnectionError:
            raise
        except OSError as error:
            raise AnswerError(507, str(error)) from None
        request.answer(201 if complete else 202, {})

    def many(self, request: Request) -> None:
        """Give many small units."""
        caller = self._callers.of(request)
        if caller is None:
            raise AnswerError(401, "who shows no certificate is served one unit at a time")
        if request.length > many.REQUEST_BYTES:
            raise AnswerError(413, "too many units for one request")
        try:
            wanted = many.decode_request(request.channel.receive(request.length))
        except ValueError as error:
            raise AnswerError(400, str(error)) from None
        given = [key if self._is_given(request, caller, key) else None for key in wanted[: many.AT_ONCE]]

        async def collect() -> bytes:
            return many.answer(self._store, given)

        request.answer(200, {"Content-Type": "application/msgpack"}, self._on_loop(collect()))

    # ---------------------------------------------------------------------------------------------------- inside

    async def _find(self, key: UnitKey) -> tuple[_Found | None, int | None]:
        """A unit that is here; of one that is not but expected, where it goes on."""
        try:
            await self._store.bring([key])
            content = self._store.find(key)
            file = -1 if content.path is None else os.open(content.path, os.O_RDONLY | os.O_CLOEXEC)
        except SharedStoreError as error:  # it is not lost: who asks shall ask again
            raise AnswerError(503, str(error)) from error
        except (DataError, FileNotFoundError):
            return None, self._arrivals.offset(key)
        return _Found(content, file), None

    def _assure(self, request: Request, caller: Identity | None, key: UnitKey) -> None:
        """Nobody is given damaged bytes who can't tell us of it: other nodes compare, and their coordinator asks.

        Who has got wrong ones asks again and says so: then all of them are read before.
        """
        if not (request.doubting or caller is None or caller.role is Role.USER):
            return
        try:
            self._on_loop(self._store.assure([key], anew=request.doubting))
        except (DataError, OSError) as error:
            raise AnswerError(404 if isinstance(error, UnitMissingError) else 503, str(error)) from error

    def _is_given(self, request: Request, caller: Identity, key: UnitKey) -> bool:
        try:
            self._callers.may_read(request, caller, key.namespace, key.run)
        except AnswerError as error:
            note_refusal(request.channel, error)
            return False  # asked for by itself, it is said why
        return True

    async def _pieces(self, channel: Channel, length: int) -> AsyncIterator[memoryview]:
        """The body of a request, received in a thread of its own turn by turn with whoever takes it."""
        pieces = channel.pieces(length)
        while (piece := await self._loop.run_in_executor(None, next, pieces, None)) is not None:
            yield piece

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Done by the event loop, while this thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _give(request: Request, found: _Found) -> None:
    content, file = found
    headers = {"ETag": f'"{content.digest.hex()}"', "Accept-Ranges": "bytes"}
    start, end, status = request.range(content.size)
    if status == 416:
        raise AnswerError(416, "", {"Content-Range": f"bytes */{content.size}", **headers})
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
    headers["Content-Type"] = "application/octet-stream"
    request.answer(status, headers, length=end - start)
    if request.method == "HEAD":
        return
    if content.data is not None:
        request.channel.send(content.data[start:end])
    elif not request.channel.send_file(file, start, end - start):
        raise BrokenError("the file became shorter")  # a short answer must not look whole
