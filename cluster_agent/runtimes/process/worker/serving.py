"""A worker from its first frame to the end of its socket: import the step, say so, then job after job."""

from __future__ import annotations

import ctypes
import gc
import importlib
import mmap
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from .failures import MISSING, WrongError, describe
from .frames import SHARED_BYTES, WORDS_BYTES, Frames, Message
from .loop import Worker, flush
from .system import limit_memory

IMPORT_BYTES = 4 << 30  # of address space beyond its memory that a step may need to import its modules
_PR_SET_CHILD_SUBREAPER = 36


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
            flush()
            frames.send(["failed", describe(error)])
            return
        seconds = time.monotonic() - began
        whole = memoryview(shared)
        with whole, whole[:WORDS_BYTES] as head, head.cast("Q") as words, whole[WORDS_BYTES:] as area:
            worker = Worker(frames, words, area, function, warm, passed[1] if passed[1:] else -1)
            flush()
            frames.send(["ready", seconds])
            worker.serve()


def _load(warm: Message) -> Callable[..., Any]:
    """Import the step's module and find its function. WrongError, of the kind MISSING, if there is none."""
    if warm["disk"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (warm["disk"], warm["disk"]))
    if warm["memory"]:
        limit_memory(warm["memory"] + IMPORT_BYTES)
    # -I keeps all of the environment away from us. Of PYTHONPATH, where an image may have its modules, the step has the
    # absolute folders: any other would be one of its working directory.
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [*filter(None, [warm["bundle"]]), *filter(os.path.isabs, folders)]
    sys.argv = [warm["function"]]
    module_name, _, function_name = warm["function"].partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise WrongError(MISSING, f"there is no module {error.name}") from None
        raise  # one that it needs itself
    for name in (function_name or "main").split("."):
        if not hasattr(found, name):
            raise WrongError(MISSING, f"{module_name} has no {function_name or 'main'}")
        found = getattr(found, name)
    if not callable(found):
        raise WrongError(MISSING, f"that is a {type(found).__name__}, not a function")
    gc.collect()
    gc.freeze()
    return found  # type: ignore[no-any-return]
