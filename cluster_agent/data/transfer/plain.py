"""Transfers without TLS, between clusters whose link the topology calls trusted: who may have them, and how they ask.

A client asks over TLS, where both ends have shown who they are, and is told a port and a token that nobody can guess.
The token stands for that client on connections to the port, for a minute. The bytes are checked against their digest
like all others, which came over TLS too: what the line could do to them is to be read.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Final

from wire.identity.peers import UnknownPeerError
from wire.identity.roles import Identity, Role

PASS_SECONDS: Final = 60.0


class Passes:
    """The tokens that were given out. Used by threads."""

    def __init__(self) -> None:
        self.trusted: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._holders: dict[str, tuple[Identity, float]] = {}

    def issue(self, caller: Identity) -> str:
        """A token for a node of a trusted cluster; empty for any other caller."""
        if caller.role is not Role.NODE or caller.cluster not in self.trusted:
            return ""
        now = time.monotonic()
        token = secrets.token_urlsafe(32)
        with self._lock:
            for old in [old for old, (_, until) in self._holders.items() if until < now]:
                del self._holders[old]
            self._holders[token] = (caller, now + PASS_SECONDS)
        return token

    def holder(self, authorization: str) -> Identity:
        """For whom the token in an Authorization header stands. UnknownPeerError."""
        with self._lock:
            holder, until = self._holders.get(authorization.removeprefix("Bearer "), (None, 0.0))
        if holder is None or until < time.monotonic() or holder.cluster not in self.trusted:
            raise UnknownPeerError("the token is not known, or not any more")
        return holder
