"""What every runtime offers the node daemon: workers that are started once and execute one task after another.

A `Runtime` starts a `Worker` for a step version; the daemon hands it a `Job` at a time and gets an `Outcome`. What the
task writes to its standard streams goes to the job's `Sink` as it comes. Cancelling the coroutine of `execute` kills
the task and all its processes before it returns. A worker whose `alive` is false after a job is not used again; `gone`
tells when one dies between jobs.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

DETAIL_BYTES = 4096


class Sink(Protocol):
    """Takes what a task writes; `stream` is 1 for standard output, 2 for standard error."""

    def write(self, stream: int, data: bytes) -> None:
        """Must not block and keeps no reference to a buffer that may change."""


@dataclass(frozen=True)
class WorkerSpec:
    """A step version as one worker runs it. Exactly one of `function` ("module:name") and `argv` is set.

    `bundle` is the directory of its code; `memory` and `disk` are bytes, 0 = no limit.
    """

    definition: str
    function: str = ""
    argv: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    bundle: Path | None = None
    memory: int = 0
    disk: int = 0


@dataclass(frozen=True)
class Job:
    """One task: its directory, its files by port (a list where the step sees many), parameters and environment."""

    directory: Path
    inputs: Mapping[str, Path | Sequence[Path]]
    outputs: Mapping[str, Path]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0  # seconds; 0 = no limit


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `kind` is empty if well, else one of the contract's kinds of failure."""

    kind: str = ""
    message: str = ""
    detail: str = ""
    seconds: float = 0.0
    peak_memory: int = 0


class Worker(abc.ABC):
    """A process or container that executes jobs, one at a time."""

    gone: asyncio.Event
    pid: int = 0

    @property
    @abc.abstractmethod
    def alive(self) -> bool:
        """Whether it can take another job."""

    @abc.abstractmethod
    async def execute(self, job: Job, sink: Sink) -> Outcome:
        """Run one job to its end."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """End it, and wait until it has."""


class Runtime(abc.ABC):
    """Starts workers. `open` first, `close` last."""

    @abc.abstractmethod
    async def open(self) -> None:
        """Get ready to start workers."""

    @abc.abstractmethod
    async def start(self, spec: WorkerSpec) -> Worker:
        """A worker that is warm; StartError if it does not come up."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End all workers and what belongs to them."""


def last_bytes(text: str, limit: int = DETAIL_BYTES) -> str:
    """The end of `text`, at most `limit` bytes of UTF-8, cut between characters."""
    packed = text.encode("utf-8", "replace")
    return text if len(packed) <= limit else packed[-limit:].decode("utf-8", "ignore")
