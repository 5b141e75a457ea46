"""A TCP proxy on loopback that counts what it forwards, and does something once after so many bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self


async def _nothing() -> None:
    return


class CountingProxy:
    """Forwards connections to `target` ("host:port"). After `after` bytes it awaits `then`, once."""

    def __init__(self, target: str, after: int = 1 << 62, then: Callable[[], Awaitable[None]] = _nothing) -> None:
        self._target = target
        self._after = after
        self._then = then
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._acting: asyncio.Task[None] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.forwarded = 0
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        if self._acting is not None:
            await self._acting
        await self.cut()

    @property
    def acted(self) -> bool:
        return self._acting is not None

    async def cut(self) -> None:
        """Close all connections; new ones are welcome."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def freeze(self) -> None:
        """Forward nothing more."""
        self._flowing.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        host, _, port = self._target.rpartition(":")
        there, to_there = await asyncio.open_connection(host, int(port))
        both = [
            asyncio.create_task(self._forward(reader, to_there)),
            asyncio.create_task(self._forward(there, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass
        finally:
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self._connections.discard(task)
            for end in (writer, to_there):
                end.transport.abort()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
            self.forwarded += len(data)
            if self.forwarded >= self._after and self._acting is None:
                self._acting = asyncio.ensure_future(self._then())
