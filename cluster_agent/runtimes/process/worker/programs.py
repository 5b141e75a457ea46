"""Programs for the small jobs of a `command` step: the function that the worker's interpreter calls for each.

Of the worker the directory in memory, answers and cleaning up are used as they are; what is different is that the
function starts a program and waits for it. So the process that starts programs is one for each worker, and between two
programs it waits for nobody.

The words of the program come in the parameter PROGRAM, filled in but for the task's directory, which is ROOT in them.
A program leads a process group, in our session: what it does to its group does not concern us, and when we are killed
the spawner knows it by the session. How it ended goes back as it is, in a failure of the kind ENDED; the daemon knows
what to make of it, and what the program has said.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

FUNCTION = "bdw_fed_worker.programs:run"
PROGRAM = "program"  # [words, environment of the step's own]; where there are no words, [why not]
ROOT = "\0root\0"  # which no word that could be executed has in it
ENDED = "ended"  # a kind of failure: the message is the program, the detail its wait status
# What Python or we ignore, and programs rely on.
DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_found: dict[tuple[str, str], str] = {}  # program and PATH -> where it was found, as shells remember it


class Failed(Exception):
    """The program could not be started, or has not ended with 0. The worker tells `bdw_fed_told` as it is."""

    def __init__(self, kind: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.bdw_fed_told = {"kind": kind, "message": message, "detail": detail}


class Programs:
    """Called for one job after another, in its directory and its environment."""

    def __init__(self) -> None:
        self._peak = 0

    def __call__(self, **arguments: Any) -> None:
        """Execute the program; Failed."""
        words, *own = arguments[PROGRAM]
        if not own:
            raise Failed("start", words)
        root = os.getcwd()  # noqa: PTH109 - what pathlib brings is not needed here
        argv = [word.replace(ROOT, root) for word in words]
        os.environ.update(own[0])
        environment = os.environb._data  # type: ignore[attr-defined]  # not decoded and encoded again
        try:
            program = find(argv[0], os.environ.get("PATH", os.defpath))
            pid = os.posix_spawn(program, argv, environment, setpgroup=0, setsigdef=DEFAULTS)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise Failed("start", f"{argv[0]}: {why}") from None
        _, status, usage = os.wait4(pid, 0)
        self._peak = max(self._peak, usage.ru_maxrss << 10)
        if status:
            raise Failed(ENDED, argv[0], str(status))

    def bdw_fed_peak(self) -> int:
        """The most memory that a program has used since this was asked, in bytes."""
        peak, self._peak = self._peak, 0
        return peak


run = Programs()


def find(name: str, path: str) -> str:
    """Where the program is that a name means with this PATH. OSError if it is nowhere."""
    if "/" in name:
        return name
    known = _found.get((name, path))
    if known is not None and os.access(known, os.X_OK):
        return known
    missing = errno.ENOENT
    for folder in path.split(os.pathsep):
        found = os.path.join(folder, name)  # noqa: PTH118 - as above
        if os.access(found, os.X_OK) and os.path.isfile(found):  # noqa: PTH113
            if folder.startswith("/"):
                _found[name, path] = found
            return found
        if os.path.exists(found):  # noqa: PTH110
            missing = errno.EACCES
    raise OSError(missing, os.strerror(missing))
