"""What every runtime offers the node daemon: workers that are started once and execute one task after another.

A `Runtime` starts a `Worker` for a step version; the daemon hands it a `Job` at a time and gets an `Outcome`. What the
task writes to its standard streams goes to the job's `Sink` as it comes. Cancelling the coroutine of `execute` kills
the task and all its processes before it returns. A worker whose `alive` is false after a job is not used again; `gone`
tells when one dies between jobs.

A worker that is, or has, an interpreter also takes small jobs, many at a time: bytes in, bytes out, and no file that
the daemon touches. They are executed in the order in which they were given, and what becomes of them is told to a
`Listener`.

Small jobs may be a *row*: each but the first is linked, its input is an output of the one before. What a row has done
when daemon and worker die is found by the next runtime, see `Runtime.left`.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

DETAIL_BYTES = 4096


class Sink(Protocol):
    """Takes what a task writes; `stream` is 1 for standard output, 2 for standard error."""

    def write(self, stream: int, data: bytes) -> None:
        """Must not block and keeps no reference to a buffer that may change."""


@dataclass(frozen=True)
class Service:
    """A program that stays and is spoken to: how many tasks it takes at a time, json or proto, and seconds."""

    slots: int = 1
    protocol: str = "json"
    warm_up: float = 60.0
    health: float = 10.0


@dataclass(frozen=True)
class Watching:
    """A program that stays and watches a directory: what it is told beside that, and when a task is done."""

    arguments: tuple[str, ...] = ()
    code: str = ""  # a directory of its image; empty: the bundle
    poll: float = 0.1
    settle: float = 0.2
    written: bool = False


@dataclass(frozen=True)
class Secret:
    """A key of a secret that the cluster's operator keeps for a namespace."""

    namespace: str
    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}/{self.key}"


@dataclass(frozen=True)
class WorkerSpec:
    """A step version as one worker runs it. Exactly one of `function` ("module:name") and `argv` is set.

    A program is started for each task, unless it is a `service` or is `watching`. What is said here is of a process,
    whatever slots it has. `bundle` is the directory of its code; `memory` and `disk` are bytes, 0 = no limit. `image`,
    `user` (root, or empty: the daemon's) and `cpus` are of no matter where workers are processes of the node.
    """

    definition: str
    function: str = ""
    argv: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    bundle: Path | None = None
    memory: int = 0
    disk: int = 0
    image: str = ""
    user: str = ""
    cpus: float = 0.0
    service: Service | None = None
    watching: Watching | None = None
    secrets: tuple[tuple[str, Secret], ...] = ()  # by the names that the step gives them


@dataclass(frozen=True)
class Values:
    """The ports that a function takes, or returns, as values: by port bytes, text or json, and whether an output may be
    left out. The other ports are files to it."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, bool]] = field(default_factory=dict)

    @property
    def told(self) -> tuple[dict[str, str], dict[str, tuple[str, bool]]] | None:
        """As a worker is told of them; None if there are none."""
        return (dict(self.inputs), dict(self.outputs)) if self.inputs or self.outputs else None


NO_VALUES = Values()


@dataclass(frozen=True)
class Job:
    """One task: its directory, its files by port (a list where the step sees many), parameters and environment.

    What is a value to the step lies in a file all the same: the worker reads and writes it.
    """

    directory: Path
    inputs: Mapping[str, Path | Sequence[Path]]
    outputs: Mapping[str, Path]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0  # seconds; 0 = no limit
    values: Values = NO_VALUES


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `kind` is empty if well, else one of the contract's kinds of failure."""

    kind: str = ""
    message: str = ""
    detail: str = ""
    seconds: float = 0.0
    peak_memory: int = 0
    code: int = 0  # of kind "exit": the exit code, where there is one


@dataclass(frozen=True, eq=False)
class SmallWork:
    """What the small jobs of a step have in common; inputs and outputs are ports and the names of their files."""

    env: Mapping[str, str]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    parameters: Mapping[str, Any]
    values: Values = NO_VALUES


class SmallJob(abc.ABC):
    """A task whose inputs travel with it: for each input of its work the bytes. It is the sink of what it writes.

    `link`: its only input is that output of the job given before it. If there is none, by whatever reason, the job
    ends without being executed, and nothing is told of it.
    """

    __slots__ = ("attempt", "inputs", "link", "task", "work")

    def __init__(self, work: SmallWork, task: str, attempt: int, inputs: Sequence[bytes], link: int = -1) -> None:
        self.work = work
        self.task = task
        self.attempt = attempt
        self.inputs = inputs
        self.link = link

    @abc.abstractmethod
    def write(self, stream: int, data: bytes) -> None:
        """See Sink."""


class SmallEnd(NamedTuple):
    """How a small job ended: `outputs` has for each output of its work the bytes, or None where nothing was written.

    If `left` is set an output was not small: they all are in that directory still, under `out/`, and the worker waits
    there for `go_on`. `again`: there was no room to execute it so; it is no fault of the step.
    """

    job: SmallJob
    seconds: float
    outputs: Sequence[bytes | None]
    peak_memory: int = 0
    failure: Outcome | None = None
    left: Path | None = None
    again: bool = False


class LeftRow(NamedTuple):
    """Of a row that was under way: what was said of it, and for each job that ended well and was followed by another
    the seconds and outputs."""

    row: bytes
    ends: list[tuple[float, Sequence[bytes | None]]]


@dataclass(frozen=True)
class Row:
    """What is to be found again of a row: `said` of it; `durable`: also after a loss of power."""

    said: bytes
    durable: bool


class Listener(Protocol):
    """Hears what becomes of small jobs."""

    def ended(self, worker: Worker, ends: Sequence[SmallEnd]) -> None:
        """These are over, in the order in which they were given."""

    def died(self, worker: Worker, job: SmallJob | None, outcome: Outcome, others: Sequence[SmallJob]) -> None:
        """The worker is dead: `job` ended with this outcome by its own doing, and the others were not executed."""


class Worker(abc.ABC):
    """A process or container that executes jobs, one at a time; or one of the slots of such a process.

    `root`: where its jobs' directories have to lie, for it to see them; None = anywhere.
    """

    gone: asyncio.Event
    pid: int = 0
    root: Path | None = None

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

    @property
    def takes_small(self) -> bool:
        """Whether it can be given small jobs."""
        return False

    @property
    def takes_rows(self) -> bool:
        """Whether it can be given a row just now."""
        return False

    def give(self, jobs: Sequence[SmallJob], listener: Listener, row: Row | None = None) -> None:
        """Have these executed, too, after those that were given before. For workers that take small jobs.

        With a `row`, which only a worker that has no job takes, the jobs are one; of a former row nothing is found
        again then. OSError: they were not given.
        """
        raise NotImplementedError

    def current(self) -> SmallJob | None:
        """The small job that is being executed, as far as can be told just now."""
        return None

    def take_back(self) -> Sequence[SmallJob]:
        """Small jobs that were given and shall not be begun any more."""
        return ()

    def go_on(self) -> None:
        """What was `left` has been taken."""
        raise NotImplementedError

    def hear(self) -> None:
        """Learn of small jobs that have ended before one that takes long."""
        raise NotImplementedError


class Room(NamedTuple):
    """What a node has for its workers (bytes of memory; 0 = not counted), and whether it is to take no new tasks."""

    cpus: float
    memory: int
    cordoned: bool = False


class Runtime(abc.ABC):
    """Starts workers. `open` first, `close` last.

    `room` is what the node has, known once it is open; None where whoever has started the daemon says it.
    """

    @property
    def room(self) -> Room | None:
        """See above."""
        return None

    def follow_room(self, changed: Callable[[Room], None]) -> None:  # noqa: B027 - of most it does not change
        """Call this whenever `room` has become another."""

    def left(self) -> Sequence[LeftRow]:
        """The rows that were under way when an earlier daemon was killed; asked before `open`, which forgets them."""
        return ()

    @abc.abstractmethod
    async def open(self) -> None:
        """Get ready to start workers."""

    @abc.abstractmethod
    async def start(self, spec: WorkerSpec) -> Worker:
        """A worker that is warm; StartError if it does not come up."""

    def bundles(self) -> Collection[Path]:
        """The directories of bundles that may still be used by workers which nobody has asked for up to now."""
        return ()

    def leave(self) -> None:  # noqa: B027 - most have nothing to keep
        """The daemon is about to end: workers that are stopped from now on may be kept for the next one."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End all workers and what belongs to them, but for what is kept for the next daemon."""


def last_bytes(text: str, limit: int = DETAIL_BYTES) -> str:
    """The end of `text`, at most `limit` bytes of UTF-8, cut between characters."""
    packed = text.encode("utf-8", "replace")
    return text if len(packed) <= limit else packed[-limit:].decode("utf-8", "ignore")
