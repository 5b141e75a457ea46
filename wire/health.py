"""What a service tells who watches over it (a kubelet, a load balancer): whether it lives, and whether it serves.

    GET /livez    200 as long as the service's event loop gets to answer
    GET /readyz   200 from when it serves until it is told to stop, else 503
    GET /metrics  where the service has some: counters in Prometheus' text format

It is plain HTTP on a port of its own, because such watchers have no certificate of the federation, and it tells nothing
else. The service's own loop answers, so a loop that is stuck does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_HEAD_BYTES = 8192
_HEAD_SECONDS = 5.0
_PHRASES = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


class Health:
    """Whether a service serves: `starting`, then `ready`, in the end `stopping`."""

    def __init__(self, metrics: Callable[[], str] | None = None) -> None:
        self.state = "starting"
        self._metrics = metrics

    @asynccontextmanager
    async def served(self, listen: str) -> AsyncIterator[str]:
        """Answer at `listen` ("host:port", port 0: a free one) for as long as the context lasts; gives the address.

        OSError if the address is taken.
        """
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(self._answer, host.strip("[]") or None, int(port), limit=_HEAD_BYTES)
        try:
            yield f"{host}:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, then the connection ends."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
            status, words = self._judge(head.split(b"\r\n", 1)[0].decode("latin-1"))
            body = f"{words.rstrip()}\n".encode()
            told = (
                f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            )
            writer.write(told.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # who asked has gone, or speaks no HTTP
        finally:
            writer.close()

    def _judge(self, first: str) -> tuple[int, str]:
        match first.split(" "):
            case ["GET" | "HEAD", "/livez", _]:
                return 200, "alive"
            case ["GET" | "HEAD", "/readyz", _]:
                return (200 if self.state == "ready" else 503), self.state
            case ["GET" | "HEAD", "/metrics", _] if self._metrics is not None:
                return 200, self._metrics()
            case _:
                return 404, "expected GET /livez or /readyz"
