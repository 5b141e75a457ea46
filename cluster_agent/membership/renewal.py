"""Renewing our own certificate in time, for a new key, without touching what is connected.

How long a certificate is to be used is said by who issues it, in each welcome. Our own clock is asked once, at the
start, for the age of what we find; from then on the monotonic clock counts. So a wrong clock costs one renewal too
early, or a late one, and not one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import SystemRandom

import structlog

from cluster_agent.link.backoff import Backoff
from cluster_agent.membership.errors import NotNowError
from wire.identity import Credentials
from wire.identity import requests as asking

_EARLIEST = 0.9  # of the time: those who joined together don't come together
_PAUSE_SECONDS = 300.0  # between two attempts, at most
_random = SystemRandom()
_log = structlog.get_logger(__name__)


class Renewal:
    """`certify` gets a certificate for a request, or raises NotNowError; `renewed` hears that a new one is in use."""

    def __init__(
        self,
        credentials: Credentials,
        certify: Callable[[bytes], Awaitable[bytes]],
        renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self._credentials = credentials
        self._certify = certify
        self._renewed = renewed
        self._after = 0.0
        self._told = asyncio.Event()

    def told(self, renew_after: float) -> None:
        """Seconds after which a certificate is to be renewed; 0 = nobody does that."""
        self._after = renew_after
        self._told.set()

    async def run(self) -> None:
        """Renew again and again, until cancelled."""
        clock = asyncio.get_running_loop().time
        issued = clock() - asking.seconds_since_issued(self._credentials)
        while True:
            await self._due(issued)
            await self._renew()
            issued = clock()

    async def _due(self, issued: float) -> None:
        """Return when it is time."""
        clock = asyncio.get_running_loop().time
        share = _random.uniform(_EARLIEST, 1.0)
        while True:
            self._told.clear()
            wait = issued + share * self._after - clock() if self._after else None
            if wait is not None and wait <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._told.wait()

    async def _renew(self) -> None:
        backoff = Backoff(first=1.0, most=_PAUSE_SECONDS)
        directory = self._credentials.certificate.parent
        while True:
            try:
                certificate = await self._certify(asking.begin(directory))
                asking.install(directory, certificate, self._credentials.ca.read_bytes())
            except (NotNowError, asking.BadCertificateError) as error:
                _log.warning("the certificate could not be renewed; it is tried again", error=str(error))
            except OSError as error:
                _log.warning("the renewed certificate can't be kept; it is tried again", error=str(error))
            else:
                _log.info("the certificate was renewed", directory=str(directory))
                self._renewed()
                return
            await backoff.wait()
