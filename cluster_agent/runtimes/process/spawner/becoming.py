"""What a forked child does before it is what was ordered: a program with limits, or an interpreter that serves."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

CONTROL = 3  # the descriptor of a function's control socket
prctl = ctypes.CDLL(None, use_errno=True).prctl
_PR_SET_PDEATHSIG = 1


def become(
    order: dict[str, Any],
    descriptors: Sequence[int],
    tell: int,
    serve: Callable[[int], None],
    programs: ModuleType,
) -> NoReturn:
    """Become it; `descriptors` are its first ones. What is in the way is written to `tell`."""
    code = 127
    try:
        parent = os.getppid()
        os.setsid()
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(code)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for place, descriptor in enumerate(descriptors):
            os.dup2(descriptor, place, inheritable=True)
        if "argv" in order:
            _execute(order, tell, programs)
        tell = os.dup2(tell, CONTROL + 1, inheritable=False)
        os.closerange(tell + 1, 1 << 16)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir("/")
        serve(CONTROL)
        code = 0
    except BaseException as error:
        import contextlib

        with contextlib.suppress(OSError):
            os.write(tell, f"{type(error).__name__}: {error}".encode()[:4096])
    finally:
        _flush_and_exit(code)


def find(order: dict[str, Any], env: dict[str, str], programs: ModuleType) -> str:
    """Where the program of an order is. OSError if it is nowhere."""
    return programs.find(order["argv"][0], env.get("PATH", os.defpath))  # type: ignore[no-any-return]


def _execute(order: dict[str, Any], tell: int, programs: ModuleType) -> NoReturn:
    for number in programs.DEFAULTS:
        signal.signal(number, signal.SIG_DFL)
    high = os.dup2(tell, 255, inheritable=False)
    os.closerange(3, high)
    os.closerange(high + 1, 1 << 16)
    try:
        os.chdir(order["directory"])
        for name, limit in (("memory", resource.RLIMIT_AS), ("disk", resource.RLIMIT_FSIZE)):
            if order[name]:
                resource.setrlimit(limit, (order[name], order[name]))
        os.execve(find(order, order["env"], programs), order["argv"], order["env"])  # noqa: S606
    except OSError as error:
        os.write(high, f"{order['argv'][0]}: {error.strerror}".encode()[:4096])
        os._exit(127)


def _flush_and_exit(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
