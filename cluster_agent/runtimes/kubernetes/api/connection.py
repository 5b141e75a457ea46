"""One HTTP request to the API server, and what it means when it fails.
 aiohttp sends; what comes back is bytes or an `ApiError`. Nothing is tried twice here but one thing: credentials that
the server does not know any more are loaded anew, once, because tokens of credential plugins and client certificates
expire while the agent runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import msgspec

from cluster_agent.runtimes.kubernetes.api.backoff import retry_after
from cluster_agent.runtimes.kubernetes.api.configuration import Access
from cluster_agent.runtimes.kubernetes.api.errors import ApiError, Unauthorized, Unavailable, of_status, one_line
from cluster_agent.runtimes.kubernetes.api.objects.meta import Status

LONGEST_LINE: Final = 16 * 2**20  # etcd keeps no object larger than 1.5 MiB
_CONNECT: Final = 10.0
_STATUS: Final = msgspec.json.Decoder(Status)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `did` says it for people: `create pods/w1 in team-a`."""

    method: str
    path: str
    did: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"


class _Pool:
    """The connections made with one access. After a renewal the old ones stay until who uses them is done."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.users = 0
        self.retired = False
        connector = aiohttp.TCPConnector(limit=100, ssl=True if access.tls is None else access.tls)
        # An API server needs no cookies, and proxies are the kubeconfig's or the environment's, as for kubectl.
        self.session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True)

    async def left(self) -> None:
        """One user less."""
        self.users -= 1
        if self.retired and not self.users:
            await self.session.close()


class Connection:
    """Pools of connections to one API server. `close` it."""

    def __init__(self, access: Access, renew: Callable[[], Awaitable[Access]] | None = None) -> None:
        """`renew` loads the access anew."""
        self.access = access
        self._renew = renew
        self._renewing = asyncio.Lock()
        self._pool: _Pool | None = None

    async def close(self) -> None:
        """Close the connections. Who still waits for an answer has cancelled it before."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.session.close()

    async def exchange(self, request: Request, timeout: float) -> bytes:
        """Send one request, at most so many seconds, and return the answer's body."""
        limits = aiohttp.ClientTimeout(total=timeout, connect=_CONNECT)
        with self._understood(request):
            async with AsyncExitStack() as stack:
                response = await self._opened(request, limits, None, stack)
                stack.callback(response.release)
                return await response.read()

    @asynccontextmanager
    async def lines(self, request: Request, timeout: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer without end, as they come; its beginning may take so many seconds."""
        limits = aiohttp.ClientTimeout(total=None, connect=_CONNECT)
        async with AsyncExitStack() as stack:
            with self._understood(request):
                response = await self._opened(request, limits, timeout, stack)
            stack.callback(response.close)  # with its connection, on which more might come
            yield self._split(response, request)

    async def _split(self, response: aiohttp.ClientResponse, request: Request) -> AsyncIterator[bytes]:
        """What is left at the end is a line that was cut: the watch goes on before it."""
        rest = bytearray()
        while True:
            with self._understood(request):
                chunk = await response.content.readany()
            if not chunk:
                return
            rest += chunk
            if b"\n" in chunk:
                *lines, tail = bytes(rest).split(b"\n")
                rest = bytearray(tail)
                for line in lines:
                    if line:
                        yield line
            if len(rest) > LONGEST_LINE:
                raise Unavailable(f"can't {request.did}: the server sent a line of more than {LONGEST_LINE} bytes")

    @contextmanager
    def _understood(self, request: Request) -> Iterator[None]:
        """Whatever goes wrong between us and the server becomes an ApiError."""
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            raise self._unreached(request, one_line(str(error)), uncertain=False) from error
        except TimeoutError as error:
            raise self._unreached(request, "it did not answer in time", uncertain=True) from error
        except (aiohttp.ClientError, OSError) as error:
            words = one_line(str(error)) or type(error).__name__
            raise self._unreached(request, words, uncertain=True) from error

    async def _opened(
        self, request: Request, limits: aiohttp.ClientTimeout, opening: float | None, stack: AsyncExitStack
    ) -> aiohttp.ClientResponse:
        """The answer, maybe with renewed credentials; `stack` lets go of what it needs."""
        access = self.access
        try:
            return await self._sent(request, limits, opening, stack)
        except Unauthorized as error:
            if self._renew is None:
                raise
            await self._renewed(access)
            try:
                return await self._sent(request, limits, opening, stack)
            except Unauthorized as again:
                raise self._unknown(again) from error

    async def _sent(
        self, request: Request, limits: aiohttp.ClientTimeout, opening: float | None, stack: AsyncExitStack
    ) -> aiohttp.ClientResponse:
        pool = self._pool
        if pool is None:
            pool = self._pool = _Pool(self.access)
        pool.users += 1
        try:
            async with asyncio.timeout(opening):
                response = await self._answer(request, limits, pool)
        except BaseException:
            await pool.left()
            raise
        stack.push_async_callback(pool.left)
        return response

    async def _answer(self, request: Request, limits: aiohttp.ClientTimeout, pool: _Pool) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        if authorization := await pool.access.authorization():
            headers["Authorization"] = authorization
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        response = await pool.session.request(
            request.method,
            pool.access.server + request.path,
            params=request.query,
            data=request.body,
            headers=headers,
            timeout=limits,
            proxy=pool.access.proxy or None,
            server_hostname=pool.access.server_name or None,
            allow_redirects=False,
        )
        if 200 <= response.status < 300:
            return response
        async with response:
            raise _failure(response, await response.content.read(LONGEST_LINE), request)

    async def _renewed(self, used: Access) -> None:
        """Load the access anew, unless somebody has while we waited."""
        assert self._renew is not None
        async with self._renewing:
            if self.access is not used:
                return
            self.access = await self._renew()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.retired = True
            if not pool.users:
                await pool.session.close()

    def _unknown(self, error: Unauthorized) -> Unauthorized:
        why = (
            "it gave no credentials; does its credential plugin work?"
            if self.access.anonymous
            else "have they expired?"
        )
        return Unauthorized(
            f"{error}: the server does not accept the credentials of {self.access.source}: {why}", error.status
        )

    def _unreached(self, request: Request, words: str, *, uncertain: bool) -> Unavailable:
        return Unavailable(f"can't {request.did}: no answer from {self.access.server}: {words}", uncertain=uncertain)


def _failure(response: aiohttp.ClientResponse, body: bytes, request: Request) -> ApiError:
    """The error in the answer's Status, or in what a proxy in between answered in its place."""
    try:
        status = _STATUS.decode(body)
    except msgspec.DecodeError:
        status = Status()
    if not status.code:
        status.code = response.status
    if not status.message:
        status.message = one_line(body.decode("utf-8", "replace"))[:200] or f"status {response.status}"
    return of_status(status, request.did, retry_after(response.headers.get("Retry-After")))
