"""One process under the supervisor: forked from its image, watched by a pidfd, heard through a pipe until it is ready.

A process says that it is ready by writing its addresses to the pipe; etcd says so to a socket, as services do to
systemd. What is left of the supervisor in a fork (descriptors, signal handlers) is dropped before the service starts.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from bdw_fed.embedded import linux
from bdw_fed.embedded.layout import Layout, Process

_LARGEST_LOG = 16 << 20
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_STEADY = 10.0  # seconds that a process must have run for its next end to count as its first


@dataclass
class Child:
    """A process of the layout as it is just now."""

    process: Process
    pid: int = 0
    started: int = 0  # its start time as the kernel counts
    since: float = 0.0  # Unix time, for people
    born: float = 0.0  # monotonic
    handle: int = -1  # pidfd
    notice: int = -1  # where its word of being ready comes in
    state: str = "down"  # starting, ready, waiting (for its next start), down
    addresses: Any = None
    starts: int = 0
    failures: int = 0  # ends in a row, each soon after its start
    again_at: float | None = None  # monotonic
    heard: bytearray = field(default_factory=bytearray)

    def start(self, layout: Layout, services: ModuleType, ours: Iterable[int]) -> None:
        """Fork the process. `ours` are the supervisor's descriptors, which the child must not keep."""
        rotate(Path(self.process.log))
        self.heard.clear()
        self.addresses = None
        word: int | str  # where the child says that it is ready: the pipe's other end, or a socket's address
        if self.process.role == "etcd":
            self.notice, word = _notice_socket()
        else:
            self.notice, word = os.pipe2(os.O_CLOEXEC)
        supervisor = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            closing = [*ours, self.notice]
            _become(self.process, supervisor, closing, lambda: _serve(self.process, layout, services, word))
        if isinstance(word, int):
            os.close(word)
        self.handle = os.pidfd_open(self.pid)
        self.started = linux.start_time(self.pid) or 0
        self.since, self.born = time.time(), time.monotonic()
        self.state, self.again_at = "starting", None
        self.starts += 1

    def hear(self) -> bool:
        """Read what the process says; True once it is ready (or will say no more)."""
        data = os.read(self.notice, 65536)
        self.heard += data
        if self.process.role == "etcd":
            ready = b"READY=1" in self.heard
        elif data and not self.heard.endswith(b"\n"):
            return False
        else:
            ready = bool(self.heard)
            if ready:
                self.addresses = json.loads(self.heard)
        if ready:
            self.state = "ready"
        return ready or not data

    def ended(self, jitter: Callable[[], float]) -> int:
        """Take note of the end; returns the exit code (negative: the signal), and plans the next start."""
        _, status = os.waitpid(self.pid, 0)
        self.silence()
        os.close(self.handle)
        now = time.monotonic()
        steady = self.state == "ready" and now - self.born >= _STEADY
        self.failures = 1 if steady else self.failures + 1
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self.failures - 1, 16))
        self.again_at = now + pause * (0.75 + 0.5 * jitter())
        self.pid, self.handle, self.state = 0, -1, "waiting"
        return os.waitstatus_to_exitcode(status)

    def silence(self) -> None:
        """Stop listening for its word."""
        if self.notice >= 0:
            os.close(self.notice)
            self.notice = -1

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, number)

    def as_values(self) -> dict[str, Any]:
        """For supervisor.json."""
        process = self.process
        return {
            "name": process.name,
            "role": process.role,
            "cluster": process.cluster,
            "node": process.node,
            "state": self.state,
            "pid": self.pid,
            "start_time": self.started,
            "since": self.since,
            "starts": self.starts,
            "addresses": self.addresses,
            "log": process.log,
        }


def rotate(log: Path) -> None:
    """Put a log that has grown large aside, over the one put aside before."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LARGEST_LOG:
            log.replace(log.with_suffix(".old.log"))


def _notice_socket() -> tuple[int, str]:
    """A socket for the word of being ready, and its address; in the abstract namespace, so that no file is left."""
    address = f"@bdw-fed-{secrets.token_hex(8)}"
    notice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    notice.bind("\0" + address[1:])
    return notice.detach(), address


def _become(process: Process, supervisor: int, closing: Iterable[int], serve: Callable[[], None]) -> None:
    """In the fork: leave the supervisor behind, then serve; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        linux.die_with_parent(signal.SIGTERM if process.role == "etcd" else signal.SIGKILL, supervisor)
        linux.name_process(process.name)
        os.setpgid(0, 0)  # ^C at a terminal is for the supervisor, which stops all in order
        for descriptor in closing:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        _redirect(Path(process.log))
        serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)


def _serve(process: Process, layout: Layout, services: ModuleType, word: int | str) -> None:
    if isinstance(word, str):
        command = services.etcd_command(process, layout)
        os.execve(command[0], command, {"NOTIFY_SOCKET": word})  # noqa: S606 - a list of arguments, no shell
    gc.enable()

    def ready(addresses: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(word, json.dumps(addresses, default=str).encode() + b"\n")
        os.close(word)

    services.run(process, layout, ready)
