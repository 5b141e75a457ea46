"""Which versions of what is said two ends have in common, so that hub, agents and peers can be upgraded in any order.

Each end says the oldest and the newest version that it speaks, and all in between it speaks, too. The two then speak
the newest that both do; with none in common they don't speak at all. Who changes the meaning of what is said, or says a
new kind of frame that must not be lost, raises `newest` by one, says it only to who speaks that version, and goes on to
speak the one before (`docs/decisions/0029-versions.md`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Versions:
    """Those from `oldest` to `newest`."""

    oldest: int
    newest: int

    def common(self, theirs: Versions) -> int | None:
        """The newest that both speak.

        >>> Versions(3, 4).common(Versions(4, 5))
        4
        >>> Versions(3, 4).common(Versions(5, 6)) is None
        True
        """
        newest = min(self.newest, theirs.newest)
        return newest if newest >= max(self.oldest, theirs.oldest) else None

    def __contains__(self, version: int) -> bool:
        return self.oldest <= version <= self.newest

    def __str__(self) -> str:
        return f"{self.newest}" if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


SESSION = Versions(1, 1)
"""Of an agent's session with the hub."""

PEERS = Versions(1, 1)
"""Of what the agents of two clusters say to each other."""
