"""The worker's side of a `python` step: a warm interpreter that calls one function for task after task.

Stands alone, on the standard library: the spawner forks it, or `python -I worker.py FD` starts it. It speaks
length-prefixed JSON over a socket with the daemon: {"op": "warm"} imports the module once and answers "ready" or
"failed"; each {"op": "run"} is answered by "done" or "error" when the task and all processes that it started are gone.
What the function prints goes to the inherited standard streams. When the socket ends, so does the worker.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import inspect
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

DETAIL_BYTES = 4096
IMPORT_BYTES = 4 << 30  # of address space beyond its memory that a step may need to import its modules
_LENGTH = struct.Struct("<I")
_PR_SET_CHILD_SUBREAPER = 36
Message = dict[str, Any]


def serve(fd: int) -> None:
    """Answer the daemon until it closes the socket, or the interpreter can't be trusted any more."""
    connection = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Made anew: those of the process that forked us were made for other files.
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # type: ignore[misc]
    warm = _receive(connection)
    if warm is None:
        return
    began = time.monotonic()
    try:
        function = _load(warm)
    except BaseException as error:
        _flush()
        told = _describe(error)
        _send(connection, {"op": "failed", **told})
        return
    baseline = frozenset(children())
    _flush()
    _send(connection, {"op": "ready", "seconds": time.monotonic() - began})
    while (job := _receive(connection)) is not None:
        answer, usable = _run(function, job, int(warm["memory"]))
        _flush()
        _end_children(baseline)
        os.chdir("/")
        _send(connection, answer)
        if not usable:
            return


def _load(warm: Message) -> Callable[..., Any]:
    """Import the step's module and find its function."""
    if warm["disk"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (warm["disk"], warm["disk"]))
    if warm["memory"]:
        _limit_memory(warm["memory"] + IMPORT_BYTES)
    if warm["bundle"]:
        sys.path.insert(0, warm["bundle"])
    sys.argv = [warm["function"]]
    module_name, _, function_name = warm["function"].partition(":")
    found: Any = importlib.import_module(module_name)
    for name in (function_name or "main").split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{warm['function']} is not a function")
    gc.collect()
    gc.freeze()
    return found  # type: ignore[no-any-return]


def _run(function: Callable[..., Any], job: Message, memory: int) -> tuple[Message, bool]:
    """The answer, and whether the interpreter may be used again."""
    import tempfile

    os.environ.clear()
    os.environ.update(job["env"])
    tempfile.tempdir = None
    os.chdir(job["directory"])
    arguments: Message = {
        _keyword(port): Path(paths) if isinstance(paths, str) else [Path(path) for path in paths]
        for port, paths in job["inputs"].items()
    }
    arguments.update({_keyword(name): value for name, value in job["parameters"].items()})
    arguments["out"] = {port: Path(path) for port, path in job["outputs"].items()}
    _reset_peak()
    if memory:
        _limit_memory(_address_space() + memory)
    began = time.monotonic()
    raised: BaseException | None = None
    try:
        result = function(**arguments)
        if inspect.isawaitable(result):
            import asyncio

            asyncio.run(_until_done(result))
    except BaseException as error:
        raised = error
    seconds = time.monotonic() - began
    _limit_memory(resource.RLIM_INFINITY)  # telling what happened needs some itself
    told = _describe(raised) if raised is not None else {}
    answer = {"op": "error" if told else "done", "seconds": seconds, "peak_memory": _peak(), **told}
    return answer, told.get("kind") != "memory"


async def _until_done(result: Any) -> None:
    await result


def _keyword(name: str) -> str:
    return name.replace("-", "_")


def _describe(error: BaseException) -> Message:
    """What the daemon is told: {} for a clean exit, else kind, message and detail."""
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return {}
        return {"kind": "exit", "message": f"the step left with exit code {error.code}", "detail": ""}
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
        "message": message.encode("utf-8", "backslashreplace")[:512].decode("utf-8", "ignore"),
        "detail": packed[-DETAIL_BYTES:].decode("utf-8", "ignore"),
    }


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


def _peak() -> int:
    """The most memory that was in use since `_reset_peak`, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _receive(connection: socket.socket) -> Message | None:
    head = _exactly(connection, _LENGTH.size)
    body = _exactly(connection, _LENGTH.unpack(head)[0]) if head else None
    return None if body is None else json.loads(body)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _send(connection: socket.socket, message: Message) -> None:
    body = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(body)) + body)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
