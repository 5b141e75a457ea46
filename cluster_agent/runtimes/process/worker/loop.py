"""One job after another: take it, call the function, answer, wait where the daemon must look first."""

from __future__ import annotations

import errno
import inspect
import json
import os
import resource
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .failures import describe, no_room
from .frames import ANSWER, AT, GOING_ON, KEPT, LEAVING, LEFT, SENDINGS, UNSENT, UNTIL, WAITING, Frames, Message, answer
from .jobs import Job, Work, adopt, dress, encoded
from .place import Place
from .system import (
    address_space,
    children,
    end_children,
    has_children,
    limit_memory,
    own_peak,
    peak,
    reset_peak,
    unread,
)
from .values import Values, keyword

_TELL_SECONDS = 0.001  # that some answers wait, or at most _TELL_ONE_SECONDS one
_TELL_SOME = 16
_TELL_ONE_SECONDS = 0.004


class Worker:
    """Takes jobs and answers them."""

    def __init__(
        self,
        frames: Frames,
        words: memoryview[int],
        area: memoryview[int],
        function: Callable[..., Any],
        warm: Message,
        kept: int,
    ) -> None:
        self._frames = frames
        self._words = words
        self._area = area
        self._unsent = 0  # bytes of answers there
        self._answered = 0  # how many they are
        self._function = function
        self._peak: Callable[[], int] = getattr(function, "bdw_fed_peak", own_peak)
        self._memory: int = warm["memory"]
        self._baseline = frozenset(children())
        self._place: Place | None = None
        self._environment = encoded(warm["env"])  # of all tasks
        self._home: str = warm["place"]
        self._small: int = warm["small"]
        self._works: dict[int, Work] = {}
        self._queue: deque[Job] = deque()
        self._oldest = 0.0
        self._kept = kept  # the file for answers that linked jobs depend on
        self._row = 0  # which they are of there,
        self._row_end = 0  # where the next is written,
        self._durable = False  # and whether it is synced
        self._last = b""  # the newest answer, and
        self._made: list[bytes | None] = []  # the outputs in it, if a linked job may have them

    def serve(self) -> None:
        """Until the daemon is gone, or the interpreter is not to be used again."""
        usable = True
        while usable:
            if self._queue:
                usable = self._turn()
                continue
            if not self._frames.fetch():
                self._rest()
            usable = self._hear() != ""

    def _rest(self) -> None:
        """There is nothing to do just now."""
        if self._answered:
            self._tell(GOING_ON)
        if self._place is not None:
            self._place.empty()

    def _turn(self) -> bool:
        """Do the next job, unless the daemon wants us to wait; whether the interpreter may be used again."""
        job = self._queue[0]
        linked = job.link >= 0
        if linked and (job.link >= len(self._made) or self._made[job.link] is None):
            self._queue.popleft()
            self._made = []
            return True
        self._words[AT] = job.number
        if self._words[UNTIL] < job.number:
            return self._wait()
        self._queue.popleft()
        pieces: list[bytes] = []
        failure, usable, outputs, seconds = (linked and self._follow(job)) or self._done(job, pieces)
        self._answer(job, failure, outputs, seconds, pieces)
        self._made = []
        if self._queue and self._queue[0].link >= 0 and usable and failure is None and LEFT not in outputs:
            made = iter(pieces)
            self._made = [next(made) if size >= 0 else None for size in outputs]
        if not usable:
            self._tell(LEAVING)
            return False
        if job.work is not None and (LEFT in outputs or unread(1) or unread(2)):
            return self._wait()
        waited = time.monotonic() - self._oldest
        if waited > (_TELL_SECONDS if self._answered >= _TELL_SOME else _TELL_ONE_SECONDS):
            self._tell(GOING_ON)
        return True

    def _follow(self, job: Job) -> tuple[Message, bool, list[int], float] | None:
        """Give a linked job its input, once that is safe; if that fails, the end of the job."""
        try:
            kept = KEPT.pack(ANSWER, self._row, len(self._last), zlib.crc32(self._last)) + self._last
            if os.pwrite(self._kept, kept, self._row_end) != len(kept):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._row_end += len(kept)
            if self._durable:
                os.fdatasync(self._kept)
        except OSError as error:
            return no_room(error), True, [], 0.0
        job.inputs = [self._made[job.link]]  # type: ignore[list-item]
        return None

    def _done(self, job: Job, pieces: list[bytes]) -> tuple[Message, bool, list[int], float]:
        """Failure if any, whether we are still usable, what became of the outputs (see Place), and seconds."""
        work = job.work
        if work is None:
            return self._run(job.told)
        try:
            if self._place is None:
                self._place = Place(self._home, self._small)
            self._place.empty()
            self._place.enter(job.task, job.attempt, work, job.inputs)
        except OSError as error:
            return no_room(error), True, [], 0.0
        dress(work.environment, job)
        parameters = json.loads(work.parameters) if work.simple is None else work.simple
        raised, seconds, _, made = self._call(self._place.arguments(work, parameters, job.inputs), work.values)
        written = self._place.written_to(work)
        if raised:
            return raised, raised["kind"] != "memory", [], seconds
        if written:
            message = f"the step wrote to its input {written}; inputs may only be read"
            return {"kind": "output", "message": message, "detail": ""}, True, [], seconds
        try:
            return None, True, self._place.outputs(work, made, pieces), seconds
        except OSError as error:
            pieces.clear()
            return no_room(error), True, [], seconds

    def _run(self, told: Message) -> tuple[Message, bool, list[int], float]:
        """As `_done`, with the peak memory in KiB in place of outputs."""
        adopt({**self._environment, **encoded(told["env"])})
        os.chdir(told["directory"])
        arguments: dict[str, Any] = {
            keyword(port): Path(paths) if isinstance(paths, str) else [Path(path) for path in paths]
            for port, paths in told["inputs"].items()
        }
        arguments.update({keyword(name): value for name, value in told["parameters"].items()})
        values = Values(told["values"]) if told["values"] else None
        out = {port: Path(path) for port, path in told["outputs"].items() if not values or port not in values.outputs}
        if out or values is None:
            arguments["out"] = out
        raised, seconds, most, made = self._call(arguments, values)
        try:
            for port, data in made.items():
                Path(told["outputs"][port]).write_bytes(data)
        except OSError as error:
            raised = describe(error)
        os.chdir("/")
        return raised, not raised or raised["kind"] != "memory", [most >> 10], seconds

    def _call(self, arguments: dict[str, Any], values: Values | None) -> tuple[Message, float, int, dict[str, bytes]]:
        """Call the step's function, and end what it leaves: failure if any, seconds, peak memory, values returned."""
        tempfile = sys.modules.get("tempfile")
        if tempfile is not None:
            tempfile.tempdir = None  # type: ignore[attr-defined]
        if self._memory:
            reset_peak()
            limit_memory(address_space() + self._memory)
        began = time.monotonic()
        raised: BaseException | None = None
        made: dict[str, bytes] = {}
        try:
            if values is not None:
                values.take(arguments)
            result = self._function(**arguments)
            if result is not None and inspect.isawaitable(result):
                import asyncio

                result = asyncio.run(_until_done(result))
            if values is not None and values.outputs:
                made = values.made(result)
        except BaseException as error:
            raised = error
        seconds = time.monotonic() - began
        most = 0
        if self._memory:
            limit_memory(resource.RLIM_INFINITY)  # telling what happened needs some itself
            most = peak()
        failure = describe(raised) if raised is not None else None
        flush()
        if self._baseline or has_children():
            end_children(self._baseline)
        return failure or None, seconds, most, made

    def _answer(self, job: Job, failure: Message, outputs: list[int], seconds: float, pieces: list[bytes]) -> None:
        """Put an answer where the daemon finds it if it must."""
        self._last = given = answer(job.number, seconds, outputs, job.work is None, failure, pieces)
        end = self._unsent + len(given)
        if not self._answered:
            self._oldest = time.monotonic()
        if end > len(self._area):
            self._tell(GOING_ON, given)
            return
        self._area[self._unsent : end] = given
        self._words[UNSENT] = self._unsent = end
        self._answered += 1

    def _tell(self, then: int, more: bytes = b"") -> None:
        """Send the answers, and one that had no room among them."""
        self._frames.send(["done", then, self._peak()], [bytes(self._area[: self._unsent]), more])
        self._words[SENDINGS] += 1
        self._words[UNSENT] = self._unsent = self._answered = 0

    def _wait(self) -> bool:
        """Say all that we have to say and wait for `go`; False if the daemon is gone."""
        self._tell(WAITING)
        while heard := self._hear():
            if heard == "go":
                return True
        return False

    def _hear(self) -> str:
        """Take in a frame; what it was, empty when the daemon is gone."""
        told = self._frames.receive()
        if told is None:
            return ""
        message, raw = told
        kind: str = message[0]
        if kind == "jobs":
            if message[3]:
                self._row, self._row_end, self._durable = message[3]
            self._queue.extend(self._jobs(message[1], message[2], raw))
        elif kind == "work":
            self._works[message[1]] = Work(message[2], self._environment)
        elif kind == "run":
            self._queue.append(Job(message[1], None, "", 0, [], message[2]))
        else:  # go, and forget jobs behind this number
            while self._queue and self._queue[-1].number > message[1]:
                self._queue.pop()
        return kind

    def _jobs(self, first: int, told: Message, raw: bytes) -> list[Job]:
        jobs = []
        start = 0
        for number, (work, task, attempt, sizes) in enumerate(told, first):
            if isinstance(sizes, int):  # the output of the job before that is its input
                jobs.append(Job(number, self._works[work], task, attempt, [], None, sizes))
                continue
            inputs = []
            for size in sizes:
                inputs.append(raw[start : start + size])
                start += size
            jobs.append(Job(number, self._works[work], task, attempt, inputs, None))
        return jobs


async def _until_done(result: Any) -> Any:
    return await result


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the step has closed it
            continue
