"""What a task that went wrong is told as: kind, a line for people, and the traceback without our own frames."""

from __future__ import annotations

import errno
import os
import traceback

from .frames import Message

NO_ROOM = "no room"  # kind of failure: the directory in memory is full, which is not the step's fault
MISSING = "missing"  # kind of failure: there is no such function
DETAIL_BYTES = 4096
_OURS = __file__.rpartition(os.sep)[0] + os.sep


class WrongError(Exception):
    """A value, or a function, that is not what it is to be: kind and message for people."""


def describe(error: BaseException) -> Message:
    """What the daemon is told: {} for a clean exit, else kind, message and detail."""
    told: Message = getattr(error, "bdw_fed_told", None)  # of a program, see there
    if told is not None:
        return told
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return {}
        code = error.code if isinstance(error.code, int) else 1
        return {"kind": "exit", "message": f"the step left with exit code {error.code}", "detail": "", "code": code}
    if isinstance(error, WrongError):
        kind, message = error.args
        return {"kind": kind, "message": cut(message), "detail": ""}
    kind = "exception"
    if isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
        kind = "disk"
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
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
        "message": cut(message),
        "detail": packed[-DETAIL_BYTES:].decode("utf-8", "ignore"),
    }


def no_room(error: OSError) -> Message:
    return {"kind": NO_ROOM, "message": str(error), "detail": ""}


def cut(message: str) -> str:
    """What a line for people has room for."""
    return message.encode("utf-8", "backslashreplace")[:512].decode("utf-8", "ignore")


def line(error: Exception) -> str:
    """What an error says, in one line."""
    try:
        return " ".join(f"{type(error).__name__}: {error}".split())
    except Exception:  # a __str__ that fails
        return type(error).__name__
