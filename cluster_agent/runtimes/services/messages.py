"""What a service and we say to each other, and what the core of that conversation takes in and gives out.

The first two are the messages of `service.proto`, as they are whichever way they travel (see `coding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cluster_agent.runtimes.base import Outcome

VERSION = 1


# ---------------------------------------------------------------------------------------------- what a service says


class Hello(msgspec.Struct, frozen=True):
    """It is there."""

    version: int


class Ready(msgspec.Struct, frozen=True):
    """It takes tasks from now on."""


class Failure(msgspec.Struct, frozen=True):
    """Why a task was not done."""

    message: str
    detail: str = ""
    kind: str = ""


class Result(msgspec.Struct, frozen=True):
    """A task is over."""

    id: str
    failure: Failure | None = None


class Log(msgspec.Struct, frozen=True):
    """Something for a task's log; without an id for those of all that are under way."""

    text: str
    id: str = ""
    error: bool = False


class Pong(msgspec.Struct, frozen=True):
    """It is well."""


Said = Hello | Ready | Result | Log | Pong


# --------------------------------------------------------------------------------------------------- what it is told


class Task(msgspec.Struct, frozen=True):
    """Something to do. An input is a file, or a list of them where the step sees many."""

    id: str
    directory: str
    temporary: str
    inputs: Mapping[str, str | list[str]]
    outputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    timeout: float = 0.0
    task: str = ""
    attempt: int = 0
    run: str = ""
    step: str = ""


class Cancel(msgspec.Struct, frozen=True):
    """That task is not wanted any more."""

    id: str


class Ping(msgspec.Struct, frozen=True):
    """Is it well?"""


class Drain(msgspec.Struct, frozen=True):
    """There are no more tasks."""


Told = Task | Cancel | Ping | Drain


# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Began:
    """The process is being started."""


@dataclass(frozen=True)
class Heard:
    """The service has said this."""

    said: Said


@dataclass(frozen=True)
class Broken:
    """The conversation can't go on: what came is not understood."""

    why: str


@dataclass(frozen=True)
class HungUp:
    """The service has closed the connection."""


@dataclass(frozen=True)
class Exited:
    """The process is gone. `outcome`: of a task that it had alone."""

    outcome: Outcome


@dataclass(frozen=True)
class Wanted:
    """A task is to be done; `alone`: while no other is under way."""

    task: Task
    alone: bool = False


@dataclass(frozen=True)
class Unwanted:
    """A task is not to be done any more."""

    id: str


@dataclass(frozen=True)
class Stop:
    """The process is not needed any more."""


@dataclass(frozen=True)
class Tick:
    """It is the time that was asked for."""


Event = Began | Heard | Broken | HungUp | Exited | Wanted | Unwanted | Stop | Tick


# --------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Tell:
    """Say this to the service."""

    told: Told


@dataclass(frozen=True)
class Up:
    """It can be given tasks."""


@dataclass(frozen=True)
class Failed:
    """It will not come up."""

    message: str
    detail: str = ""


@dataclass(frozen=True)
class Write:
    """Put this into the logs of these tasks; `stream` is 1 or 2."""

    ids: Sequence[str]
    stream: int
    data: bytes


@dataclass(frozen=True)
class Ended:
    """A task is over. `suspect`: it was under way when the process died, and so were others."""

    id: str
    outcome: Outcome
    suspect: bool = False


@dataclass(frozen=True)
class Kill:
    """End the process and all that it has started."""


@dataclass(frozen=True)
class WakeAt:
    """Tick then, in place of what was asked for before."""

    at: float


Action = Tell | Up | Failed | Write | Ended | Kill | WakeAt
