"""What goes into the scrubber's core and what comes out of it: see `core`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec


class File(NamedTuple):
    """What is to be read: its place in the order of a pass, and its size in bytes."""

    place: bytes
    size: int


class Progress(msgspec.Struct, frozen=True):
    """How far the scrubber is, as it is kept over restarts. `seconds` are those that a daemon ran since the pass began.

    `damaged` counts files, since ever; `last` is how long ago, in such seconds, a pass was through, -1 = never.
    """

    seconds: float = 0.0
    after: bytes = b""  # all up to this place is read
    through: bool = False  # all of the pass is
    read: int = 0  # bytes, in this pass
    damaged: int = 0
    last: float = -1.0


# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Listed:
    """What is stored now, in the order of places."""

    files: Sequence[File]


@dataclass(frozen=True, slots=True)
class PieceRead:
    """A piece was read; there is more of the file."""

    size: int


@dataclass(frozen=True, slots=True)
class FileEnded:
    """The file is through; `size` bytes of it were read just now, none if it needed no look or is gone."""

    size: int = 0
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Listed | PieceRead | FileEnded | Tick

# --------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class List:
    """Say what is stored."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read a piece of the file with this number in the list; say PieceRead or FileEnded."""

    file: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Have this survive a restart."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick then."""

    at: float


Action = List | Read | Keep | WakeAt
