"""The worker's side of a `python` step: a warm interpreter that calls one function for task after task.

Stands alone, on the standard library: the spawner forks it, or `python -I worker.py FD` starts it, in a pod, where
`programs.py` lies beside it. Frames go both ways
over a socket with the daemon; a frame is the lengths of a JSON list and of the bytes behind it, the list, the bytes.

    daemon ── warm ──────────────▶ worker ── ready | failed ─▶ daemon
    daemon ── run, work, jobs, go ─▶ worker ── done ───────────▶ daemon

A `run` is one task in a directory that the daemon made. `jobs` are small tasks of a `work` that was told before, many
in a frame: their inputs come along and are written into a directory of the worker's own, and small outputs go back with
the answer, so that the daemon touches no file. That directory lies in memory where it can. It is used again once it is
empty, under another name for each task, as a step may remember things by their path; its `tmp` is on the disk. What the
function takes and returns as values is in no file, unless it is large; a task that has nothing else gets the directory
as it is, which is all that is looked at afterwards.

A small task may be *linked*: its input is an output of the one before it, which it follows at once. The answer of the
one before is written to a file first, so that whoever dies, a task that has begun did so with an input that is known.
If there is no such output nothing that is linked behind it is executed, and nothing is said of it.

Answers leave when there is nothing else to do, or some have waited for a millisecond. After a task that has printed or
left a large output the worker waits for `go`: what is in the pipes, or in the directory, is that task's, and the daemon
takes it. The two also share some memory: the worker writes there which job it begins, so that its death is charged to
that one, and the answers that it has not sent yet, so that they are not lost with it, nor held up by a job that takes
long; the daemon, up to which job it may go on without asking.

A task has ended when all processes that it started have. What the function prints goes to the inherited standard
streams. When the socket ends, so does the worker.
"""

# For a small task what pathlib adds to a system call is more than the call.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH116, PTH118, PTH208, PTH211

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import importlib.util
import inspect
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import stat
import struct
import sys
import termios
import time
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

DETAIL_BYTES = 4096
IMPORT_BYTES = 4 << 30  # of address space beyond its memory that a step may need to import its modules
PROGRAMS = "bdw_fed_programs"  # see there
WORKS_KNOWN = 256  # places for works; the daemon gives a place to another work when it has no free one
# Words of the shared memory: the job begun last, the last that may begin, the size of the answers that were not sent
# (they are behind the words), how often any were.
AT, UNTIL, UNSENT, SENDINGS = 0, 1, 2, 3
WORDS_BYTES = 32
SHARED_BYTES = 1 << 20
GOING_ON, WAITING, LEAVING = 0, 1, 2  # what the worker does after a `done`
LEFT, MISSING = -1, -2  # in place of an output's size
NO_ROOM = "no room"  # kind of failure: the directory in memory is full, which is not the step's fault
_TELL_SECONDS = 0.001  # that some answers wait, or at most _TELL_ONE_SECONDS one
_TELL_SOME = 16
_TELL_ONE_SECONDS = 0.004
_LENGTHS = struct.Struct("<II")
KEPT = struct.Struct("<cIII")  # of a frame in the file of what is kept: kind, row, bytes of the body, its CRC-32
ANSWER = b"A"
_ANSWER = struct.Struct("<QQIHB")  # number, microseconds, bytes of the failure, outputs, whether it was a run
_RECEIVE_BYTES = 256 << 10
_PR_SET_CHILD_SUBREAPER = 36
_WALL = 0x40000000  # for waitid: children of every kind
_UNTOUCHED_NS = 10**18  # the time of inputs and directories that nobody has written to
_FORMS = {"bytes": "bytes", "text": "text in UTF-8", "json": "JSON"}
_first_json = json.JSONDecoder().raw_decode
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
Message = Any


class Frames:
    """One end of the conversation, blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._start = 0  # of what has not been received

    def send(self, message: Message, pieces: Sequence[bytes] = ()) -> None:
        """Send a frame."""
        self._connection.sendall(frame(message, pieces))

    def receive(self) -> tuple[Message, bytes] | None:
        """The next frame; None when the other end is gone."""
        while (found := split_frame(self._buffer, self._start)) is None:
            piece = self._connection.recv(_RECEIVE_BYTES)
            if not piece:
                return None
            self._add(piece)
        message, raw, self._start = found
        return message, raw

    def fetch(self) -> bool:
        """Take in what is there; whether a frame can be received without waiting."""
        if _end_of_frame(self._buffer, self._start) is None:
            try:
                self._add(self._connection.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return False
        return _end_of_frame(self._buffer, self._start) is not None

    def _add(self, piece: bytes) -> None:
        self._buffer = self._buffer[self._start :] + piece
        self._start = 0


def frame(message: Message, pieces: Sequence[bytes] = ()) -> bytes:
    """A message and the bytes that follow it, as they travel."""
    body = json.dumps(message, separators=(",", ":")).encode()
    raw = b"".join(pieces)
    return b"".join((_LENGTHS.pack(len(body), len(raw)), body, raw))


def split_frame(data: bytes, start: int) -> tuple[Message, bytes, int] | None:
    """The message at `start` with its bytes, and where the next frame begins; None if it is not all there yet."""
    end = _end_of_frame(data, start)
    if end is None:
        return None
    first = start + _LENGTHS.size
    middle = first + _LENGTHS.unpack_from(data, start)[0]
    return json.loads(data[first:middle]), data[middle:end], end


def _end_of_frame(data: bytes, start: int) -> int | None:
    first = start + _LENGTHS.size
    if len(data) < first:
        return None
    text, raw = _LENGTHS.unpack_from(data, start)
    end: int = first + text + raw
    return end if end <= len(data) else None


def answers(raw: bytes) -> Iterator[tuple[int, float, list[Any], Message]]:
    """Of each answer the number, seconds, outputs (bytes, LEFT or MISSING; of a run its peak memory) and failure."""
    start = 0
    while start < len(raw):
        number, microseconds, text, count, run = _ANSWER.unpack_from(raw, start)
        start += _ANSWER.size
        sizes = struct.unpack_from(f"<{count}i", raw, start)
        start += 4 * count
        failure = json.loads(raw[start : start + text]) if text else None
        start += text
        outputs: list[Any] = []
        for size in sizes:
            if run:
                outputs.append(size << 10)
            elif size >= 0:
                outputs.append(raw[start : start + size])
                start += size
            else:
                outputs.append(size)
        yield number, microseconds / 1e6, outputs, failure


def serve(fd: int) -> None:
    """Answer the daemon until it closes the socket, or the interpreter can't be trusted any more."""
    connection = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Made anew: those of the process that forked us were made for other files.
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # type: ignore[misc]
    _, passed, _, _ = socket.recv_fds(connection, 1, 2)
    if not passed:
        return
    for descriptor in passed:
        os.set_inheritable(descriptor, False)
    with mmap.mmap(passed[0], SHARED_BYTES) as shared:
        os.close(passed[0])
        frames = Frames(connection)
        told = frames.receive()
        if told is None:
            return
        warm = told[0]
        began = time.monotonic()
        try:
            function = _load(warm)
        except BaseException as error:
            _flush()
            frames.send(["failed", _describe(error)])
            return
        seconds = time.monotonic() - began
        whole = memoryview(shared)
        with whole, whole[:WORDS_BYTES] as head, head.cast("Q") as words, whole[WORDS_BYTES:] as area:
            worker = Worker(frames, words, area, function, warm, passed[1] if passed[1:] else -1)
            _flush()
            frames.send(["ready", seconds])
            worker.serve()


class Work:
    """What many small jobs have in common."""

    def __init__(self, told: Message, environment: dict[bytes, bytes]) -> None:
        self.environment = {**environment, **_encoded(told["env"])}
        self.values = Values(told["values"]) if told["values"] else None
        values = self.values or Values(({}, {}))
        self.inputs: list[tuple[str, str]] = [(_keyword(port), name) for port, name in told["inputs"]]
        self.outputs: list[tuple[str, str]] = [(port, name) for port, name in told["outputs"]]
        self.files_in = [(at, *put) for at, put in enumerate(self.inputs) if put[0] not in values.inputs]
        self.files_out = [put for put in self.outputs if put[0] not in values.outputs]
        self.values_in = [(at, port) for at, (port, _) in enumerate(self.inputs) if port in values.inputs]
        self.filed = bool(self.files_in or self.files_out) or self.values is None  # whether it has its directories
        self.out = bool(self.files_out) or self.values is None  # whether the function is called with `out`
        self.parameters: str = json.dumps({_keyword(name): value for name, value in told["parameters"].items()})
        self.simple: dict[str, Any] | None = json.loads(self.parameters)
        if any(isinstance(value, (list, dict)) for value in told["parameters"].values()):
            self.simple = None  # a function may change them, so each call gets its own


class PortError(Exception):
    """A value that is not what its port is to take or to return: kind and message for people."""


class Values:
    """The ports that the function takes or returns as values."""

    def __init__(self, told: Message) -> None:
        inputs, outputs = told
        self.inputs: dict[str, tuple[str, str]] = {_keyword(port): (port, form) for port, form in inputs.items()}
        self.outputs: dict[str, list[Any]] = outputs  # by port form, and whether it may be left out

    def take(self, arguments: dict[str, Any]) -> None:
        """Put the values into the arguments, where the bytes are, or the paths to them. PortError, OSError."""
        for name, (port, form) in self.inputs.items():
            given = arguments[name]
            if type(given) is list:
                arguments[name] = [_value(port, form, one) for one in given]
            else:
                arguments[name] = _value(port, form, given)

    def made(self, result: Any) -> dict[str, bytes]:
        """The bytes of what the function has returned, without the outputs that it has left out. PortError."""
        outputs = self.outputs
        if len(outputs) == 1:
            [port] = outputs
            result = {port: result}
        elif result is None:
            result = {}
        elif not isinstance(result, dict) or not result.keys() <= outputs.keys():
            what = f"a dictionary with {[*result]}" if isinstance(result, dict) else type(result).__name__
            expected = f"a dictionary by its outputs: {', '.join(outputs)}"
            raise PortError("output", f"the function returned {what}, but expected is {expected}")
        made = {}
        for port, (form, optional) in outputs.items():
            value = result.get(port)
            if value is not None:
                made[port] = _written(port, form, value)
            elif not optional:
                raise PortError("output", f"the function returned nothing for its output {port}")
        return made


def _value(port: str, form: str, given: Any) -> Any:
    """What the function is given for the bytes of a unit, or for the file that holds them. PortError, OSError."""
    data: bytes = given if type(given) is bytes else given.read_bytes()
    try:
        if form == "json":
            return _from_json(data)
        return str(data, "utf-8") if form == "text" else data
    except (ValueError, RecursionError) as error:
        raise PortError("exception", f"input {port} can't be read as {_FORMS[form]}: {error}") from None


def _from_json(data: bytes) -> Any:
    """What JSON says; `json.loads` alone takes three times as long for what is small. ValueError, RecursionError."""
    try:
        text = str(data, "utf-8").strip(" \t\n\r")
        value, end = _first_json(text)
        if end == len(text):
            return value
    except ValueError:
        pass
    return json.loads(data)  # says what is wrong with it, or it begins with a byte order mark, or is UTF-16


def _written(port: str, form: str, value: Any) -> bytes:
    """The bytes of a unit for what the function returned. PortError."""
    try:
        if form == "json":
            return _to_json(value).encode()
        if form == "text":
            if isinstance(value, str):
                return value.encode()
        elif isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
    except MemoryError:
        raise
    except Exception as error:  # also of what the value itself does when it is looked through
        raise PortError("output", f"output {port} can't be written as {_FORMS[form]}: {_line(error)}") from None
    expected = f"{'str' if form == 'text' else 'bytes'}, as its port says as: {form}"
    raise PortError("output", f"output {port} was returned as {type(value).__name__}, but expected is {expected}")


class Job:
    """A task that was told and is not done. Without a work it is a `run`, and `told` its message.

    `link`: which output of the job before it is its input; -1 if it is not linked, or that is known.
    """

    __slots__ = ("attempt", "inputs", "link", "number", "task", "told", "work")

    def __init__(
        self,
        number: int,
        work: Work | None,
        task: str,
        attempt: int,
        inputs: list[bytes],
        told: Message,
        link: int = -1,
    ) -> None:
        self.number = number
        self.work = work
        self.task = task
        self.attempt = attempt
        self.inputs = inputs
        self.told = told
        self.link = link


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
        self._peak: Callable[[], int] = getattr(function, "bdw_fed_peak", _own_peak)
        self._memory: int = warm["memory"]
        self._baseline = frozenset(children())
        self._place: Place | None = None
        self._environment = _encoded(warm["env"])  # of all tasks
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
        if job.work is not None and (LEFT in outputs or _unread(1) or _unread(2)):
            return self._wait()
        waited = time.monotonic() - self._oldest
        if waited > (_TELL_SECONDS if self._answered >= _TELL_SOME else _TELL_ONE_SECONDS):
            self._tell(GOING_ON)
        return True

    def _follow(self, job: Job) -> tuple[Message, bool, list[int], float] | None:
        """Give a linked job its input, once that is safe; if that fails, the end of the job."""
        try:
            answer = KEPT.pack(ANSWER, self._row, len(self._last), zlib.crc32(self._last)) + self._last
            if os.pwrite(self._kept, answer, self._row_end) != len(answer):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._row_end += len(answer)
            if self._durable:
                os.fdatasync(self._kept)
        except OSError as error:
            return _no_room(error), True, [], 0.0
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
            return _no_room(error), True, [], 0.0
        _dress(work.environment, job)
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
            return _no_room(error), True, [], seconds

    def _run(self, told: Message) -> tuple[Message, bool, list[int], float]:
        """As `_done`, with the peak memory in KiB in place of outputs."""
        _adopt({**self._environment, **_encoded(told["env"])})
        os.chdir(told["directory"])
        arguments: dict[str, Any] = {
            _keyword(port): Path(paths) if isinstance(paths, str) else [Path(path) for path in paths]
            for port, paths in told["inputs"].items()
        }
        arguments.update({_keyword(name): value for name, value in told["parameters"].items()})
        values = Values(told["values"]) if told["values"] else None
        out = {port: Path(path) for port, path in told["outputs"].items() if not values or port not in values.outputs}
        if out or values is None:
            arguments["out"] = out
        raised, seconds, peak, made = self._call(arguments, values)
        try:
            for port, data in made.items():
                Path(told["outputs"][port]).write_bytes(data)
        except OSError as error:
            raised = _describe(error)
        os.chdir("/")
        return raised, not raised or raised["kind"] != "memory", [peak >> 10], seconds

    def _call(self, arguments: dict[str, Any], values: Values | None) -> tuple[Message, float, int, dict[str, bytes]]:
        """Call the step's function, and end what it leaves: failure if any, seconds, peak memory, values returned."""
        tempfile = sys.modules.get("tempfile")
        if tempfile is not None:
            tempfile.tempdir = None  # type: ignore[attr-defined]
        if self._memory:
            _reset_peak()
            _limit_memory(_address_space() + self._memory)
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
        peak = 0
        if self._memory:
            _limit_memory(resource.RLIM_INFINITY)  # telling what happened needs some itself
            peak = _peak()
        failure = _describe(raised) if raised is not None else None
        _flush()
        if self._baseline or _has_children():
            _end_children(self._baseline)
        return failure or None, seconds, peak, made

    def _answer(self, job: Job, failure: Message, outputs: list[int], seconds: float, pieces: list[bytes]) -> None:
        """Put an answer where the daemon finds it if it must."""
        text = json.dumps(failure).encode() if failure else b""
        head = _ANSWER.pack(job.number, int(seconds * 1e6), len(text), len(outputs), job.work is None)
        self._last = answer = b"".join((head, struct.pack(f"<{len(outputs)}i", *outputs), text, *pieces))
        end = self._unsent + len(answer)
        if not self._answered:
            self._oldest = time.monotonic()
        if end > len(self._area):
            self._tell(GOING_ON, answer)
            return
        self._area[self._unsent : end] = answer
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


class Place:
    """The worker's own directory, for one small job after another: in/ and out/ in it, and tmp, which is elsewhere.

    `home` exists; what is in it is removed by whoever made it. Its `tmp` is a directory, or a link to one.
    """

    def __init__(self, home: str, small: int) -> None:
        self._home = home
        self._small = small
        self._temporary = os.path.join(home, "tmp")
        self._count = 0
        self._used = False
        self._open: list[int] = []
        self._inputs: list[str] = []
        self._filed = False  # whether it has in/ and out/, which no task with values alone needs
        self._empty_size = 0  # of a directory, where sizes tell that; else 0
        self._name = ""  # that of the task
        self.root = ""  # until it is made, and after it could not be emptied

    def enter(self, task: str, attempt: int, work: Work, inputs: list[bytes]) -> None:
        """Be the directory of a task, with these inputs."""
        self._used = True
        if not self.root:
            self._make()
        self._inputs.clear()
        self._name = f"{self._home}/{task}.{attempt}"
        if not work.filed:
            os.chdir(self.root)
            return
        self._settle()
        os.chdir(self.root)
        for at, _, name in work.files_in:
            data = inputs[at]
            file = os.open(f"in/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            self._open.append(file)
            self._inputs.append(name)
            if os.write(file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.utime(file, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))

    def arguments(self, work: Work, parameters: dict[str, Any], inputs: list[bytes]) -> dict[str, Any]:
        """What the step's function is called with, values as bytes still."""
        arguments: dict[str, Any] = {port: Path(f"{self.root}/in/{name}") for _, port, name in work.files_in}
        for at, port in work.values_in:
            arguments[port] = inputs[at]
        arguments.update(parameters)
        if work.out:
            arguments["out"] = {port: Path(f"{self.root}/out/{name}") for port, name in work.files_out}
        return arguments

    def written_to(self, work: Work) -> str:
        """The port of an input that the task has written to, or empty."""
        found = ""
        for (_, port, _), file in zip(work.files_in, self._open):  # noqa: B905 - Python 3.9 has no strict
            try:
                if os.fstat(file).st_mtime_ns != _UNTOUCHED_NS:
                    found = port
                os.close(file)
            except OSError:  # the step has closed all descriptors that it could find
                continue
        self._open.clear()
        return found

    def outputs(self, work: Work, made: dict[str, bytes], pieces: list[bytes]) -> list[int]:
        """For each port the size of what is added to `pieces`, or why nothing is. `made` are the values. OSError."""
        if not work.files_out:
            return [self._made(name, made.get(port), pieces) for port, name in work.outputs]
        values = work.values.outputs if work.values else {}
        return [
            self._made(name, made.get(port), pieces)
            if port in values
            else self._output(f"{self.root}/out/{name}", pieces)
            for port, name in work.outputs
        ]

    def _made(self, name: str, data: bytes | None, pieces: list[bytes]) -> int:
        """A value; one that is large is left as a file."""
        if data is None:
            return MISSING
        if len(data) <= self._small:
            pieces.append(data)
            return len(data)
        self._settle()
        Path(f"{self.root}/out/{name}").write_bytes(data)
        return LEFT

    def _settle(self) -> None:
        """Have the task's name, and directories for its files."""
        if not self._filed:
            for name in ("in", "out"):
                os.mkdir(f"{self.root}/{name}")
            self._empty_size = os.stat(f"{self.root}/out").st_size if _size_tells(f"{self.root}/out") else 0
            os.utime(self.root, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))
            self._filed = True
        if self.root != self._name:
            os.rename(self.root, self._name)
            self.root = self._name

    def _output(self, path: str, pieces: list[bytes]) -> int:
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return MISSING
        except OSError:
            return LEFT
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self._small:
                return LEFT
            data = os.read(file, self._small + 1)
        finally:
            os.close(file)
        os.unlink(path)
        pieces.append(data)
        return len(data)

    def empty(self) -> None:
        """Have nothing of the last task any more."""
        if not self._used:
            return
        self._used = False
        for file in self._open:  # of a task that could not be begun
            os.close(file)
        self._open.clear()
        try:
            for name in self._inputs:
                os.unlink(f"{self.root}/in/{name}")
            clean = (
                (not self._filed or (self._is_empty(f"{self.root}/in") and self._is_empty(f"{self.root}/out")))
                and os.stat(self.root).st_mtime_ns == _UNTOUCHED_NS
                and os.stat(self._temporary).st_mtime_ns == _UNTOUCHED_NS
            )
        except OSError:
            clean = False
        if not clean:
            os.chdir("/")
            shutil.rmtree(self.root, ignore_errors=True)
            self.root = ""

    def _is_empty(self, directory: str) -> bool:
        if self._empty_size:
            return os.stat(directory).st_size == self._empty_size
        return not os.listdir(directory)

    def _make(self) -> None:
        for entry in os.scandir(self._temporary):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        os.utime(self._temporary, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))
        self._count += 1
        root = f"{self._home}/{self._count}"
        os.mkdir(root)
        os.symlink(os.path.realpath(self._temporary), os.path.join(root, "tmp"))
        self._filed = False
        os.utime(root, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))
        self.root = root


def _load(warm: Message) -> Callable[..., Any]:
    """Import the step's module and find its function."""
    if warm["disk"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (warm["disk"], warm["disk"]))
    if warm["memory"]:
        _limit_memory(warm["memory"] + IMPORT_BYTES)
    # -I keeps all of the environment away from us. Of PYTHONPATH, where an image may have its modules, the step has the
    # absolute folders: any other would be one of its working directory.
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [*filter(None, [warm["bundle"]]), *filter(os.path.isabs, folders)]
    sys.argv = [warm["function"]]
    module_name, _, function_name = warm["function"].partition(":")
    if module_name == PROGRAMS and module_name not in sys.modules:
        _load_programs()
    found: Any = importlib.import_module(module_name)
    for name in (function_name or "main").split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{warm['function']} is not a function")
    gc.collect()
    gc.freeze()
    return found  # type: ignore[no-any-return]


def _load_programs() -> None:
    """What lies beside us, under a name that is nobody else's."""
    spec = importlib.util.spec_from_file_location(PROGRAMS, Path(__file__).with_name("programs.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[PROGRAMS] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _size_tells(empty: str) -> bool:
    """Whether the size of a directory tells that there is something in it, as in memory."""
    before = os.stat(empty).st_size
    os.mkdir(os.path.join(empty, "probe"))
    with_one = os.stat(empty).st_size
    os.rmdir(os.path.join(empty, "probe"))
    return before != with_one and os.stat(empty).st_size == before


def _no_room(error: OSError) -> Message:
    return {"kind": NO_ROOM, "message": str(error), "detail": ""}


def _encoded(environment: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def _adopt(wanted: dict[bytes, bytes]) -> None:
    """Make the environment this one, touching only what differs."""
    environment = os.environb
    there: dict[bytes, bytes] = environment._data  # type: ignore[attr-defined]  # as its items are, ten times as quick
    for name, value in wanted.items() - there.items():
        environment[name] = value
    if len(there) != len(wanted):
        for name in there.keys() - wanted.keys():
            del environment[name]


def _dress(environment: dict[bytes, bytes], job: Job) -> None:
    """Have the environment of a job, given that of its work as it was for the job before."""
    there: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]
    task, attempt = job.task.encode(), b"%d" % job.attempt
    same = there == environment
    environment[b"BDW_FED_TASK"], environment[b"BDW_FED_ATTEMPT"] = task, attempt
    if not same:
        _adopt(environment)
        return
    os.environb[b"BDW_FED_TASK"] = task
    if there[b"BDW_FED_ATTEMPT"] != attempt:
        os.environb[b"BDW_FED_ATTEMPT"] = attempt


def _unread(stream: int) -> int:
    """Bytes in a pipe that the daemon has not read yet."""
    count = bytearray(4)
    try:
        fcntl.ioctl(stream, termios.FIONREAD, count)
    except OSError:  # the step has closed it
        return 0
    return int.from_bytes(count, sys.byteorder)


def _has_children() -> bool:
    """Whether there is any process that is a child of ours; what lost its parent below us is one too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return False
    return True


async def _until_done(result: Any) -> Any:
    return await result


def _keyword(name: str) -> str:
    return name.replace("-", "_")


def _describe(error: BaseException) -> Message:
    """What the daemon is told: {} for a clean exit, else kind, message and detail."""
    told: Message = getattr(error, "bdw_fed_told", None)  # of a program, see there
    if told is not None:
        return told
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return {}
        code = error.code if isinstance(error.code, int) else 1
        return {"kind": "exit", "message": f"the step left with exit code {error.code}", "detail": "", "code": code}
    if isinstance(error, PortError):
        kind, message = error.args
        return {"kind": kind, "message": _cut(message), "detail": ""}
    kind = "exception"
    if isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
        kind = "disk"
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next  # our own frames say nothing to the step's author
    try:
        lines = traceback.format_exception(type(error), error, trace)
    except BaseException:  # a __str__ that fails, or no memory
        lines = [type(error).__name__]
    detail = "".join(lines)
    message = next((line.strip() for line in reversed(detail.splitlines()) if line.strip()), "")
    packed = detail.encode("utf-8", "backslashreplace")
    return {
        "kind": kind,
        "message": _cut(message),
        "detail": packed[-DETAIL_BYTES:].decode("utf-8", "ignore"),
    }


def _cut(message: str) -> str:
    """What a line for people has room for."""
    return message.encode("utf-8", "backslashreplace")[:512].decode("utf-8", "ignore")


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    try:
        return " ".join(f"{type(error).__name__}: {error}".split())
    except Exception:  # a __str__ that fails
        return type(error).__name__


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the step has closed it
            continue


def children() -> list[int]:
    """Our direct children; orphans of theirs become ours, as we are their subreaper."""
    found: list[int] = []
    try:
        for thread in Path("/proc/self/task").iterdir():
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    except OSError:  # a kernel without that file, or a thread that ended just now
        found += [pid for pid in children_by_parent() if pid not in found]
    return found


def children_by_parent() -> list[int]:
    found = []
    own = str(os.getpid())
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1] == own:
                    found.append(int(process.name))
            except OSError:
                continue
    return found


def _end_children(baseline: frozenset[int]) -> None:
    """Kill all that a task has started and left, whatever session it has fled to."""
    while True:
        left = [pid for pid in children() if pid not in baseline]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue


def _limit_memory(limit: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = hard if limit == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _own_peak() -> int:
    """The most memory that this process has ever used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _peak() -> int:
    """The most memory that was in use since `_reset_peak`, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return _own_peak()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
