"""When a task of a program that watches a directory is done: judged by what lies there, look after look. Pure.

The program says nothing. It takes a file from `in` to `work`, writes results to `out`, and the file leaves `work`. So a
task is done when nothing of it waits in `in`, nothing is left in `work`, and nothing there has changed for a while:
some write their results after they have removed the file. A program that leaves files in `work` is judged by `out`
alone: it must have written something, and for a while no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NEVER: Final = float("inf")
_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Look:
    """What lies there: each file by its path with whatever changes when it is written to."""

    waiting: Mapping[str, tuple[int, ...]]
    working: Mapping[str, tuple[int, ...]]
    results: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Seen:
    """This lies there now."""

    look: Look


@dataclass(frozen=True)
class Left:
    """The program has ended well; this is what it has left."""

    look: Look


@dataclass(frozen=True)
class Done:
    """The task is."""


@dataclass(frozen=True)
class Unfinished:
    """The program has ended and left the task as it is."""

    why: str


@dataclass(frozen=True)
class LookAt:
    """Look again then."""

    at: float


class DirectoryCore:
    """One task, whose files are in `in` already."""

    def __init__(self, poll: float, settle: float, *, written: bool) -> None:
        self._poll = poll
        self._settle = settle
        self._written = written
        self._last: Look | None = None
        self._since = _NEVER  # when it became what it is

    def handle(self, event: Seen | Left, now: float) -> Done | Unfinished | LookAt:
        """What follows from a look."""
        look = event.look
        if isinstance(event, Left):  # nobody is left to change anything
            if self._is_over(look):
                return Done()
            where = "in" if look.waiting else "work" if look.working and not self._written else ""
            return Unfinished(f"with the task's file still in /{where}" if where else "with nothing in /out")
        if look != self._last:
            self._last, self._since = look, now
        if not self._is_over(look):
            return LookAt(now + self._poll)
        quiet_at = self._since + self._settle
        if now >= quiet_at - _ROUNDING:
            return Done()
        return LookAt(min(quiet_at, now + self._poll))

    def _is_over(self, look: Look) -> bool:
        """Whether this can be how a task ends."""
        if self._written:
            return not look.waiting and any(not name.startswith(".") for name in look.results)
        return not (look.waiting or look.working)
