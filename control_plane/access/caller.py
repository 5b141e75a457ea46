"""Who makes a call: a user whose certificate or token says a name, and with a token perhaps groups.

Names of the two kinds never meet: a certificate's has no colon, a token's begins with `oidc:`, a group's with `group:`.
All three are *subjects*, to which roles are bound.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from control_plane.access.errors import InvalidSubject
from wire.identity.roles import Identity, Role

OIDC = "oidc:"
GROUP = "group:"
_LONGEST = 256


@dataclass(frozen=True)
class Caller:
    """A person or a program that acts for one. `until` is the Unix time at which their token runs out."""

    name: str
    groups: tuple[str, ...] = ()
    until: float | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """All names under which roles may be bound to the caller."""
        return (self.name, *(GROUP + group for group in self.groups))


# Set by the gate for the time of a call. What answers a call without it fails: nobody was let in.
CALLER: ContextVar[Caller] = ContextVar("bdw_fed_caller")


def checked_subject(subject: str) -> str:
    """The subject itself. InvalidSubject."""
    for prefix in (OIDC, GROUP):
        if subject.startswith(prefix):
            rest = subject.removeprefix(prefix)
            if rest.strip() == rest and rest and rest.isprintable() and len(subject) <= _LONGEST:
                return subject
            raise InvalidSubject(
                f"{subject[:80]!r} names nobody: expected {prefix}NAME with at most {_LONGEST} printable characters"
            )
    try:
        if "/" in subject:  # only nodes' names have one
            raise ValueError(subject)
        return Identity(Role.USER, subject).name
    except ValueError:
        raise InvalidSubject(
            f"{subject[:80]!r} names nobody: expected the name in a user's certificate (a-z, 0-9, '-' and '.'), "
            f"{OIDC}NAME for who comes with a token, or {GROUP}NAME for a group that tokens name"
        ) from None
