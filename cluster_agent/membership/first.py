"""A service's first step: to have credentials, and if need be to join for them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from cluster_agent.link.backoff import Backoff
from cluster_agent.membership.errors import NotNowError
from wire.identity import Credentials
from wire.identity.files import replace_whole
from wire.identity.requests import has_expired

_JOINED_WITH = "joined-with"
_MOST_SECONDS = 30.0
_log = structlog.get_logger(__name__)


async def member(directory: Path, token: str, join: Callable[[], Awaitable[Credentials]]) -> Credentials:
    """The credentials in `directory`. `join` is asked for some where there are none, where they have expired, and where
    the token is another than the one that they were got with: then somebody wants us to be a new member.

    Waits as long as who has to be asked is away. JoinError.
    """
    known = _kept(directory, token)
    if known is not None:
        return known
    backoff = Backoff(first=1.0, most=_MOST_SECONDS)
    while True:
        try:
            credentials = await join()
        except NotNowError as error:
            _log.warning("not a member yet; it is tried again", error=str(error))
            await backoff.wait()
        else:
            remember(directory, token)
            return credentials


def remember(directory: Path, token: str) -> None:
    """The credentials in `directory` were got with this token."""
    replace_whole(directory / _JOINED_WITH, _digest(token))


def _kept(directory: Path, token: str) -> Credentials | None:
    try:
        credentials = Credentials.load(directory)
        if (directory / _JOINED_WITH).read_bytes() != _digest(token):
            return None
    except FileNotFoundError:
        return None
    return None if has_expired(credentials) else credentials


def _digest(token: str) -> bytes:
    return hashlib.sha256(f"bdw-fed joined with {token}".encode()).hexdigest().encode()
