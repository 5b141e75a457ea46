"""A member's standing connections, one to each relay: over them it is called, and lets in who may call.

    know(relays) ─▶ a connection to each, again and again ─ Called ─▶ may it? ─▶ answer ─▶ let_in(socket)
                                                                          └─▶ Decline

The relay says who calls as it knows it from that one's certificate; the two show each other their certificates again
in the TLS that follows, so the relay has to be trusted with nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable

import structlog

from bdw_fed.v1.membership_pb2 import SignedRevocations
from cluster_agent.link.backoff import Backoff
from cluster_agent.relay import messages as say
from cluster_agent.relay.dialling import NotThroughError, Relay, Routes
from cluster_agent.relay.secured import Secured
from wire.identity import Identity, UnknownPeerError

_log = structlog.get_logger(__name__)
_GREETING_SECONDS = 10.0
_ANSWERS_AT_ONCE = 64
_ROOM = 100  # bytes of a word for its form


class Standing:
    """The connections. `may_call` judges the caller; `let_in` takes the socket of one who came."""

    def __init__(
        self, routes: Routes, may_call: Callable[[Identity], bool], let_in: Callable[[socket.socket], None]
    ) -> None:
        self._routes = routes
        self._may_call = may_call
        self._let_in = let_in
        self._kept: dict[Relay, asyncio.Task[None]] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._there: set[Secured] = set()
        self._revoked: say.Revoked | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self.at: set[str] = set()
        """The names of the relays over which we can be called just now."""

    def know(self, relays: Iterable[Relay]) -> None:
        """Stand at these relays, and at no others."""
        wanted = set(relays)
        for relay in [relay for relay in self._kept if relay not in wanted]:
            self._kept.pop(relay).cancel()
        for relay in wanted - set(self._kept):
            self._kept[relay] = asyncio.create_task(self._keep(relay), name=f"stand at {relay.name}")

    def revoke(self, signed: SignedRevocations) -> None:
        """Tell all relays which certificates are revoked, now and whenever we come to one."""
        if not signed.list or len(signed.list) + len(signed.signature) > say.MOST_BYTES - _ROOM:
            return
        self._revoked = say.Revoked(signed.list, signed.signature)
        for secured in self._there:
            task = asyncio.create_task(self._tell(secured))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, secured: Secured) -> None:
        """What is revoked. If it can't be said, it is on the next connection."""
        if self._revoked is not None:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_GREETING_SECONDS):
                    await secured.say(self._revoked)

    async def close(self) -> None:
        """Leave all relays."""
        tasks = [*self._kept.values(), *self._answers, *self._telling]
        self._kept.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, relay: Relay) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._stand(relay, backoff)
            except (OSError, ValueError, UnknownPeerError) as error:
                words = str(error) or type(error).__name__
                _log.info("not at a relay", relay=relay.name, address=relay.address, error=words)
            await backoff.wait()

    async def _stand(self, relay: Relay, backoff: Backoff) -> None:
        secured = await self._routes.open(relay)
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                await secured.say(say.Stand())
                said = await secured.hear(say.from_relay)
            if not isinstance(said, say.Standing):
                raise NotThroughError(
                    said.why if isinstance(said, say.Refused) else "it does not speak as a relay does"
                )
            backoff.reset()
            self._there.add(secured)
            await self._tell(secured)
            self.at.add(relay.name)
            while isinstance(called := await secured.hear(say.from_relay), say.Called):
                await self._called(relay, called, secured)
            raise NotThroughError(f"it said {type(called).__name__} where only Called is expected")
        finally:
            self.at.discard(relay.name)
            self._there.discard(secured)
            secured.close()

    async def _called(self, relay: Relay, called: say.Called, secured: Secured) -> None:
        caller = Identity.parse(called.by)
        refused = ""
        if not self._may_call(caller):
            refused = f"{caller} is none that may call here"
        elif len(self._answers) >= _ANSWERS_AT_ONCE:
            refused = f"{_ANSWERS_AT_ONCE} others are being answered"
        if refused:
            _log.warning("declined a call", relay=relay.name, caller=str(caller), why=refused)
            async with asyncio.timeout(_GREETING_SECONDS):
                await secured.say(say.Decline(called.token, refused))
            return
        task = asyncio.create_task(self._answer(relay, caller, called.token))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, relay: Relay, caller: Identity, token: bytes) -> None:
        try:
            sock = await self._routes.answer(relay, token)
        except (OSError, ValueError) as error:
            _log.info("a call was not answered", relay=relay.name, caller=str(caller), error=str(error))
        else:
            self._let_in(sock)
