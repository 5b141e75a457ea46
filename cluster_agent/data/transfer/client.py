"""Asks the data servers of other nodes: the requests of a pull and of a push, over connections that are used again.

`pull` fills a `PartialFile`, `pull_small` gets many small units with one request, and `push` sends what the receiver
lacks. They go on after a failure from where they were, waiting longer each time that nothing at all came across, and
give up after `attempts` such failures in a row; whoever asked decides whether to ask again. What blocks is done by
threads (see `connections`), which a cancelled call ends before it returns.

A pull begins with one stream, which is as fast as two cores encrypt, hash and write. Where the line is slower than
that, because it is long, further streams take other ranges of the file.
"""

from __future__ import annotations

import asyncio
import functools
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import GoneError, NotTakenError, TransferError
from cluster_agent.data.transfer import many
from cluster_agent.data.transfer.connections import UPLOAD_OFFSET, Connections, Exchange, RefusedError, Source
from cluster_agent.data.transfer.partial import PartialFile
from cluster_agent.relay.dialling import Routes
from wire.identity.revocations import Revocations

__all__ = ["Source", "TransferClient"]

RANGES_AT_ONCE = 4
_THREADS = 64
_SLOW = 64e6  # bytes a second below which further streams may help
_LOOK_SECONDS = 0.5

T = TypeVar("T")


class TransferClient:
    """Connections to other nodes' data servers, over relays where `routes` lead, and none to who is revoked.

    Use as an async context manager.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        routes: Routes | None = None,
        revocations: Revocations | None = None,
        *,
        attempts: int = 6,
        backoff: float = 0.1,
        max_backoff: float = 5.0,
    ) -> None:
        self._connections = Connections(context, routes, revocations)
        self._attempts = attempts
        self._backoff = backoff
        self._max_backoff = max_backoff
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="transfer")

    async def __aenter__(self) -> TransferClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connections.close()
        self._executor.shutdown()

    async def pull(self, partial: PartialFile, digest: bytes, sources: Sequence[Source]) -> int:
        """Get what is missing, from the first of `sources` that gives it; the number of bytes that came.

        GoneError if none has the unit any more, TransferError after the last attempt.
        """
        left = deque(sources)
        crossed = failures = 0
        reason = "no address was given"
        while left and not partial.complete():
            source = left[0]
            before = partial.received
            try:
                await self._pull_from(partial, digest, source)
            except GoneError as error:
                left.popleft()
                reason = str(error)
                if not left:
                    raise
            except RefusedError as error:
                left.popleft()
                reason = str(error)
            except OSError as error:
                reason = f"{source.address}: {error or type(error).__name__}"
                left.rotate(-1)
            crossed += partial.received - before
            if partial.complete():
                break
            failures = 1 if partial.received > before else failures + 1
            if failures >= self._attempts:
                raise TransferError(f"gave up after {failures} attempts: {reason}")
            await self._pause(failures)
        if not partial.complete():
            raise TransferError(reason)
        return crossed

    async def pull_small(self, keys: Sequence[UnitKey], source: Source) -> many.Answer:
        """Digest and content of each unit as far as the server of `source` has it. TransferError."""
        failures, body = 0, many.encode_request(keys)

        def ask(exchange: Exchange) -> many.Answer:
            answer = exchange.ask("POST", "/v1/units", body=body)
            return many.decode_answer(answer.body(many.ANSWER_BYTES + many.REQUEST_BYTES), len(keys))

        while True:
            try:
                return await self._in_thread(source, ask)
            except OSError as error:
                failures += 1
                if failures >= self._attempts:
                    raise TransferError(f"gave up after {failures} attempts: {source.address}: {error}") from None
                await self._pause(failures)
            except (RefusedError, GoneError, ValueError) as error:
                raise TransferError(str(error)) from None

    async def push(self, content: Content, target: Source) -> None:
        """Send a content to a server that expects it. TransferError where it is refused or can't be reached."""
        failures, told = 0, -1
        while True:
            try:
                offset = await self._in_thread(target, _offset)
                if offset is None:
                    return
                failures = 0 if offset > told >= 0 else failures
                told = offset
                if await self._in_thread(target, functools.partial(_put, content=content, offset=offset)):
                    return
                reason = f"{target.address} did not take all bytes"
            except RefusedError as error:
                raise NotTakenError(str(error)) from None
            except OSError as error:
                reason = f"{target.address}: {error or type(error).__name__}"
            failures += 1
            if failures >= self._attempts:
                raise TransferError(f"gave up after {failures} attempts: {reason}")
            await self._pause(failures)

    # ---------------------------------------------------------------------------------------------------- inside

    async def _pull_from(self, partial: PartialFile, digest: bytes, source: Source) -> None:
        chunks = deque(partial.missing())

        def stream(exchange: Exchange) -> None:
            while chunks and not exchange.aborted:
                _chunk(exchange, partial, chunks.popleft(), digest)

        streams = {asyncio.create_task(self._in_thread(source, stream, plain=partial.size))}
        try:
            while streams:
                before, began = partial.received, time.monotonic()
                done, streams = await asyncio.wait(streams, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for ended in done:
                    ended.result()
                rate = (partial.received - before) / max(1e-3, time.monotonic() - began)
                if not done and chunks and rate < _SLOW and len(streams) < RANGES_AT_ONCE:
                    streams.add(asyncio.create_task(self._in_thread(source, stream, plain=partial.size)))
        finally:
            for task in streams:
                task.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    async def _in_thread(self, source: Source, work: Callable[[Exchange], T], plain: int = 0) -> T:
        """Do `work` with a server; if this is cancelled it ends with a broken connection before this returns."""
        exchange = Exchange(self._connections, source, plain)
        working = asyncio.get_running_loop().run_in_executor(self._executor, exchange.run, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            exchange.abort()
            await asyncio.wait([working])
            working.cancelled() or working.exception()
            raise

    async def _pause(self, failures: int) -> None:
        ceiling = min(self._max_backoff, self._backoff * 2.0 ** min(failures, 16))
        await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311 - spreads load, guards nothing


# ------------------------------------------------------------------------------------------------- in a thread


def _chunk(exchange: Exchange, partial: PartialFile, chunk: int, digest: bytes) -> None:
    """Get the rest of a chunk."""
    start, end = partial.offset(chunk), partial.end(chunk) - 1
    where = exchange.source.address
    answer = exchange.ask("GET", exchange.path, {"Range": f"bytes={start}-{end}"})
    if answer.headers.get("etag") != f'"{digest.hex()}"':
        raise GoneError(f"{where} has other bytes under this unit's name")
    expected = f"bytes {start}-{end}/{partial.size}"
    if answer.status == 206 and answer.headers.get("content-range") != expected:
        raise RefusedError(f"{where} answered with another range than {expected}")
    if answer.status == 200 and start != 0:
        raise RefusedError(f"{where} does not answer with ranges")
    for piece in answer.pieces():
        try:
            partial.write(chunk, piece)
        except ValueError as error:
            raise RefusedError(f"{where}: {error}") from None


def _offset(exchange: Exchange) -> int | None:
    """Where the receiver wants us to go on; None if it has the unit already."""
    try:
        answer = exchange.ask("HEAD", exchange.path)
    except GoneError:
        raise OSError("the unit is not expected there") from None  # it may be, in a moment
    told = answer.headers.get(UPLOAD_OFFSET.lower())
    return int(told) if told is not None and told.isdecimal() else None


def _put(exchange: Exchange, content: Content, offset: int) -> bool:
    """Send a content from an offset on; whether the receiver has it all now."""
    size = content.size
    headers = {
        "Content-Range": f"bytes {offset}-{size - 1}/{size}" if size else "bytes */0",
        "ETag": f'"{content.digest.hex()}"',
    }
    body = content.data[offset:] if content.data is not None else (content.file, offset, size - offset)
    try:
        return exchange.ask("PUT", exchange.path, headers, body).status == 201
    except GoneError:
        raise OSError("not taken just now (404)") from None
