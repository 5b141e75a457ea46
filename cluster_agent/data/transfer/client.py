"""Asks the data servers of other nodes: the requests of a pull and of a push, over connections that are used again.

`pull` fills a `PartialFile`, several ranges at a time where there is much to get, and `push` sends what the receiver
lacks. Both go on after a failure from where they were, waiting longer each time that nothing at all came across, and
give up after `attempts` such failures in a row; whoever asked decides whether to ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import GoneError, TransferError
from cluster_agent.data.transfer.partial import PartialFile

READ_BYTES = 512 << 10
RANGES_AT_ONCE = 4
UPLOAD_OFFSET = "Upload-Offset"
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
_OK = (200, 206)
_RETRIED = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Source:
    """Where a unit can be had: "host:port", and the name that the server's certificate must carry."""

    key: UnitKey
    address: str
    server_name: str


class _RefusedError(Exception):
    """The server answered, and trying again will not change its answer."""


class TransferClient:
    """Connections to other nodes' data servers. Use as an async context manager."""

    def __init__(
        self, context: ssl.SSLContext, *, attempts: int = 6, backoff: float = 0.1, max_backoff: float = 5.0
    ) -> None:
        self._context = context
        self._attempts = attempts
        self._backoff = backoff
        self._max_backoff = max_backoff
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> TransferClient:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=64, limit_per_host=8, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def pull(self, partial: PartialFile, digest: bytes, sources: Sequence[Source]) -> int:
        """Get what `partial` lacks; returns the bytes that crossed. GoneError or TransferError."""
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
            except _RefusedError as error:
                left.popleft()
                reason = str(error)
            except _RETRIED as error:
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

    async def push(self, content: Content, target: Source) -> None:
        """Send a content to a server that expects it. TransferError where it is refused or can't be reached."""
        failures, told = 0, -1
        while True:
            try:
                offset = await self._offset(target)
                if offset is None:
                    return
                failures = 0 if offset > told >= 0 else failures
                told = offset
                if await self._put(content, offset, target):
                    return
                reason = f"{target.address} did not take all bytes"
            except _RefusedError as error:
                raise TransferError(str(error)) from None
            except _RETRIED as error:
                reason = f"{target.address}: {error or type(error).__name__}"
            failures += 1
            if failures >= self._attempts:
                raise TransferError(f"gave up after {failures} attempts: {reason}")
            await self._pause(failures)

    # ------------------------------------------------------------------------------------------------------ pull

    async def _pull_from(self, partial: PartialFile, digest: bytes, source: Source) -> None:
        chunks = deque(partial.missing())

        async def take_chunks() -> None:
            while chunks:
                await self._chunk(partial, chunks.popleft(), digest, source)

        tasks = [asyncio.create_task(take_chunks()) for _ in range(min(RANGES_AT_ONCE, len(chunks)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _chunk(self, partial: PartialFile, chunk: int, digest: bytes, source: Source) -> None:
        start, end = partial.offset(chunk), partial.end(chunk) - 1
        headers = {"Range": f"bytes={start}-{end}"}
        async with self._request("GET", source, headers=headers) as response:
            self._judge(response, source)
            if response.headers.get("ETag") != f'"{digest.hex()}"':
                raise _RefusedError(f"{source.address} has other bytes under this unit's name")
            expected = f"bytes {start}-{end}/{partial.size}"
            if response.status == 206 and response.headers.get("Content-Range") != expected:
                raise _RefusedError(f"{source.address} answered with another range than {expected}")
            if response.status == 200 and start != 0:
                raise _RefusedError(f"{source.address} does not answer with ranges")
            async for data in response.content.iter_chunked(READ_BYTES):
                try:
                    partial.write(chunk, data)
                except ValueError as error:
                    raise _RefusedError(f"{source.address}: {error}") from None

    # ------------------------------------------------------------------------------------------------------ push

    async def _offset(self, target: Source) -> int | None:
        """Where the receiver wants us to go on; None if it has the unit already."""
        async with self._request("HEAD", target) as response:
            if response.status == 404:
                raise OSError("the unit is not expected there")  # it may be, in a moment
            self._judge(response, target)
            told = response.headers.get(UPLOAD_OFFSET)
            return int(told) if told is not None and told.isdecimal() else None

    async def _put(self, content: Content, offset: int, target: Source) -> bool:
        size = content.size
        headers = {
            "Content-Range": f"bytes {offset}-{size - 1}/{size}" if size else "bytes */0",
            "Content-Length": str(size - offset),
            "ETag": f'"{content.digest.hex()}"',
        }
        data = _read(content, offset)
        async with contextlib.aclosing(data), self._request("PUT", target, headers=headers, data=data) as response:
            if response.status in (404, 409):
                raise OSError(f"not taken just now ({response.status})")
            self._judge(response, target)
            return response.status == 201

    # ---------------------------------------------------------------------------------------------------- inside

    def _request(
        self, method: str, source: Source, *, headers: dict[str, str] | None = None, data: object = None
    ) -> aiohttp.client._RequestContextManager:
        assert self._session is not None, "used outside of its context"
        key = source.key
        url = URL(f"https://{source.address}/v1/{key.namespace}/{key.run}/{key.unit.hex()}")
        return self._session.request(
            method, url, headers=headers, data=data, server_hostname=source.server_name, allow_redirects=False
        )

    def _judge(self, response: aiohttp.ClientResponse, source: Source) -> None:
        if response.status == 404:
            raise GoneError(f"{source.address} has the unit no more")
        if response.status >= 500 or response.status == 429:
            raise OSError(f"answered {response.status}")
        if response.status not in (*_OK, 201, 202):
            raise _RefusedError(f"{source.address} refused: {response.status} {response.reason}")

    async def _pause(self, failures: int) -> None:
        ceiling = min(self._max_backoff, self._backoff * 2.0 ** min(failures, 16))
        await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311 - spreads load, guards nothing


async def _read(content: Content, offset: int) -> AsyncGenerator[bytes, None]:
    if content.data is not None:
        yield content.data[offset:]
        return
    with content.file.open("rb", buffering=0) as source:
        source.seek(offset)
        while offset < content.size:
            block = await asyncio.to_thread(source.read, min(READ_BYTES, content.size - offset))
            if not block:
                return
            offset += len(block)
            yield block
