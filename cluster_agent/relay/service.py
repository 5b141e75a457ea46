"""The relay as a service: it takes connections of members, lets the switchboard decide, and passes bytes.

    accepted ─▶ TLS, first word ─▶ Stand   stays, and is told of calls
                               ├─▶ Dial    waits until the called one is there ─▶ pipe ─▶ counted
                               └─▶ Answer  hands its socket to the one that waits

It knows the federation's authority and nothing else: no topology, no hub, no state on disk. Which certificates are
revoked agents tell it, with the authority's signature. All that it has been told is told again by whoever connects
anew, so it may be killed at any moment. What it passes on is the TLS of the two members, whose keys it never sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import structlog

from bdw_fed.v1.membership_pb2 import SignedRevocations
from cluster_agent.relay import messages as say
from cluster_agent.relay.core import Action, Connect, Hangup, Limits, Refuse, Ring, Switchboard
from cluster_agent.relay.counts import Counts
from cluster_agent.relay.dialling import keep_alive
from cluster_agent.relay.messages import from_member
from cluster_agent.relay.pipe import IDLE_SECONDS, Pipe
from cluster_agent.relay.secured import Secured
from wire.identity import Changed, Credentials, Identity, UnknownPeerError, reload, ssl_server_context
from wire.identity.revocations import Revocations, believed
from wire.service import allow_many_files

_log = structlog.get_logger(__name__)
_GREETING_SECONDS = 10.0
_SAY_SECONDS = 10.0
_FULL_SECONDS = 0.5
_BACKLOG = 512
_TOKEN_BYTES = 24


@dataclass(frozen=True)
class RelayConfig:
    """What a relay is told. `listen` is "host:port", port 0 = any. `greeting`: how many may be without a word yet.

    `hub` lists addresses of hubs, of which any renews its certificate; without them whoever made it does.
    """

    name: str
    listen: str
    credentials: Credentials
    limits: Limits = field(default_factory=Limits)
    greeting: int = 512
    idle: float = IDLE_SECONDS  # after which a pair that says nothing is closed
    counts: Counts = field(default_factory=Counts)
    hub: tuple[str, ...] = ()


class _RefusedError(Exception):
    """A connection comes to nothing; its member is told why."""

    def __init__(self, code: say.Code, why: str) -> None:
        super().__init__(why)
        self.code = code


async def serve(config: RelayConfig, ready: Callable[[dict[str, str]], None], stop: asyncio.Event) -> None:
    """Run the relay until `stop` is set. `ready` gets its address as "relay". OSError if that is taken."""
    allow_many_files()
    relay = RelayService(config)
    renewing = asyncio.create_task(_renew(config))
    try:
        ready({"relay": relay.listen()})
        await stop.wait()
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await relay.close()


async def _renew(config: RelayConfig) -> None:
    if config.hub:
        from cluster_agent.relay.renewing import renewal  # a relay that nobody renews needs no gRPC

        await renewal(config.credentials, config.hub).run()


class RelayService:
    """Made and closed by `serve`. A number stands for each connection on the switchboard.

    A connection's task owns its socket; that of one who answers passes to the task of the one who called.
    """

    def __init__(self, config: RelayConfig) -> None:
        self._config = config
        self._context = ssl_server_context(config.credentials)
        self._context.num_tickets = 0
        self._changed = Changed(config.credentials)
        self._board = Switchboard(config.limits)
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._greeting = 0
        self._revocations = Revocations()
        self._present: dict[asyncio.Task[None], tuple[Identity, ...]] = {}  # who is at the ends of a task's connections
        self._calls: dict[int, asyncio.Queue[say.Called | None]] = {}  # of those that stand
        self._waiting: dict[int, asyncio.Future[Secured]] = {}  # of those that have dialled
        self._timer: asyncio.TimerHandle | None = None
        self._counts = config.counts
        self._counts.now = self._now

    def listen(self) -> str:
        """Open the door; its address."""
        host, _, port = self._config.listen.rpartition(":")
        bare = host.strip("[]")
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        self._sock = socket.create_server((bare, int(port)), family=family, backlog=_BACKLOG)
        self._sock.setblocking(False)
        self._own(self._accept(self._sock))
        return f"{host}:{self._sock.getsockname()[1]}"

    async def close(self) -> None:
        """End all connections."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sock is not None:
            self._sock.close()

    # ---------------------------------------------------------------------------------------------- connections

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, (host, *_) = await self._loop.sock_accept(listening)
            except ConnectionError:
                continue
            except OSError as error:  # no descriptor is left: some connection has to end first
                _log.warning("a connection can't be accepted", error=str(error))
                await asyncio.sleep(_FULL_SECONDS)
                continue
            if self._greeting >= self._config.greeting:
                self._counts.refused("crowd")
                sock.close()
                continue
            sock.setblocking(False)
            self._greeting += 1
            self._show_newest()
            self._own(self._serve(Secured(sock, self._context), host))

    def _show_newest(self) -> None:
        """Who connects from now on is shown the certificate that is in the files now."""
        if self._changed():
            reload(self._context, self._config.credentials)
            _log.info("another certificate is shown from now on")

    async def _serve(self, secured: Secured, host: str) -> None:
        """One connection from a host, from its first byte to its end."""
        member: Identity | None = None
        try:
            try:
                keep_alive(secured.sock)
                async with asyncio.timeout(_GREETING_SECONDS):
                    member = await secured.handshake()
                    first = await secured.hear(from_member)
            finally:
                self._greeting -= 1
            self._stay((member,))
            await self._take(next(self._numbers), secured, member, first)
        except _RefusedError as refused:
            self._counts.refused(refused.code)
            _log.warning("refused", member=str(member), code=refused.code, why=str(refused))
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_SAY_SECONDS):
                    await secured.say(say.Refused(refused.code, str(refused)))
        except (OSError, ValueError, UnknownPeerError) as error:
            words = str(error) or type(error).__name__
            if member is None:
                self._counts.refused("stranger")
                _log.warning("a stranger was turned away", host=host, error=words)
            else:
                _log.info("a connection broke", member=str(member), error=words)
        finally:
            self._present.pop(_this_task(), None)
            secured.close()

    async def _take(self, number: int, secured: Secured, member: Identity, first: say.FromMember) -> None:
        match first:
            case say.Stand():
                await self._stand(number, secured, member)
            case say.Dial(to):
                await self._dial(number, secured, member, to)
            case say.Answer(token):
                await self._answer(number, secured, member, token)
            case say.Decline() | say.Revoked():
                raise ValueError(f"{type(first).__name__} was said on a connection that does not stand")

    async def _stand(self, number: int, secured: Secured, member: Identity) -> None:
        calls = self._calls[number] = asyncio.Queue()
        try:
            self._do(self._board.stood(number, member), asking=number)
            await secured.say(say.Standing())
            await _first_of(self._tell(secured, calls), self._hear(secured, member))
        finally:
            del self._calls[number]
            self._do(self._board.left(number, member))

    async def _tell(self, secured: Secured, calls: asyncio.Queue[say.Called | None]) -> None:
        while (call := await calls.get()) is not None:
            async with asyncio.timeout(_SAY_SECONDS):
                await secured.say(call)

    async def _hear(self, secured: Secured, member: Identity) -> None:
        while True:
            match await secured.hear(from_member):
                case say.Decline(token, why):
                    self._do(self._board.declined(member, token, why))
                case say.Revoked(told, signature):
                    self._revoked(SignedRevocations(list=told, signature=signature), member)
                case said:
                    raise ValueError(f"{type(said).__name__} was said on a connection that stands")

    async def _dial(self, number: int, secured: Secured, member: Identity, to: str) -> None:
        called = self._waiting[number] = self._loop.create_future()
        token = secrets.token_bytes(_TOKEN_BYTES)
        try:
            self._do(self._board.dialled(number, member, to, token, self._loop.time()), asking=number)
            await self._pass(secured, await called, member, Identity.parse(to))
        finally:
            del self._waiting[number]
            self._do(self._board.parted(number))
            if called.done() and not called.cancelled() and called.exception() is None:
                called.result().close()

    async def _answer(self, number: int, secured: Secured, member: Identity, token: bytes) -> None:
        (action,) = self._board.answered(number, member, token)
        if not isinstance(action, Connect):
            self._do([action], asking=number)
        elif not (waiting := self._waiting[action.caller]).done():
            waiting.set_result(secured.handed_over())

    async def _pass(self, secured: Secured, called: Secured, by: Identity, to: Identity) -> None:
        """Let both through, and pass bytes until they part."""
        assert called.member is not None
        self._stay((by, called.member))
        await _both(_let_through(secured), _let_through(called))
        pipe = Pipe(secured.sock, called.sock, idle=self._config.idle)
        with self._counts.counted(by.cluster, to.cluster, pipe):
            await pipe.run()

    # ------------------------------------------------------------------------------------------------- inside

    def _stay(self, members: tuple[Identity, ...]) -> None:
        """These are at the ends of this task's connections. _RefusedError if one is revoked, or when it comes to be."""
        for member in members:
            if refusal := self._revocations.refusal(member):
                raise _RefusedError("revoked", refusal)
        self._present[_this_task()] = members

    def _revoked(self, signed: SignedRevocations, teller: Identity) -> None:
        """A member passes a list on: end what those that are on it have here."""
        told = believed(signed, self._config.credentials.ca.read_bytes())
        if told is None:
            _log.warning("a list of revocations is not the authority's; it is dropped", sender=str(teller))
            return
        if not (news := self._revocations.learn(told)):
            return
        _log.warning("certificates were revoked", clusters=sorted(news), told_by=str(teller))
        for task, members in self._present.items():
            if any(self._revocations.refusal(member) for member in members):
                task.cancel()

    def _do(self, actions: Sequence[Action], asking: int = 0) -> None:
        """What the switchboard says. _RefusedError if it refuses the connection that asks."""
        refused: _RefusedError | None = None
        for action in actions:
            match action:
                case Ring(connection, token, by):
                    self._calls[connection].put_nowait(say.Called(token, by.uri))
                case Hangup(connection):
                    self._calls[connection].put_nowait(None)
                case Refuse(connection, code, why):
                    if connection == asking:
                        refused = _RefusedError(code, why)
                    elif not self._waiting[connection].done():
                        self._waiting[connection].set_exception(_RefusedError(code, why))
        self._set_timer()
        if refused is not None:
            raise refused

    def _now(self) -> dict[str, int]:
        board = self._board
        return {"standing": board.standing, "waiting": board.waiting, "pairs": board.pairs, "greeting": self._greeting}

    def _set_timer(self) -> None:
        due = self._board.due
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self._late)

    def _late(self) -> None:
        self._do(self._board.late(self._loop.time()))


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    """Until one has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _both(*works: Coroutine[None, None, None]) -> None:
    """Until both are done. TimeoutError."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        async with asyncio.timeout(_SAY_SECONDS):
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _let_through(secured: Secured) -> None:
    await secured.say(say.Through())
    await secured.bare()
