"""The supervisor: one quiet process that holds the image from which all others are forked.

It imports everything once, and never opens a channel or starts a thread, so that a fork of it is clean at any time.
Then it waits: for a process's word that it is ready, for the end of one (it is started again, with growing pauses), or
for SIGTERM (all are stopped in order). What it knows stands in `supervisor.json`; who started it hears of each change
on standard output, one JSON object a line, for as long as it listens.

    python -m bdw_fed.embedded.supervisor STATE SERVICES-MODULE stay|leave < layout.json

With `stay` it ends with the process that has started it; with `leave` it is nobody's child.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from bdw_fed.embedded import linux
from bdw_fed.embedded.children import Child
from bdw_fed.embedded.layout import FILE as LAYOUT_FILE
from bdw_fed.embedded.layout import ORDER_OF_STOPPING, Layout

STATE_FILE = "supervisor.json"
LOCK_FILE = "supervisor.lock"
SERVICES = "bdw_fed.embedded.services"


class Supervisor:
    """Runs the processes of one layout until it is told to stop."""

    def __init__(self, layout: Layout, services: ModuleType, report: Report, ours: Iterable[int]) -> None:
        self._layout = layout
        self._services = services
        self._report = report
        self._children = [Child(process) for process in layout.processes]
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._jitter = random.Random()  # noqa: S311 - spreads restarts
        self._wake, wake_writer = socket.socketpair()
        self._wake.setblocking(False)
        wake_writer.setblocking(False)
        self._wake_writer = wake_writer
        self._ours = [*ours, self._wake.fileno(), wake_writer.fileno(), self._selector.fileno()]

    def run(self) -> None:
        """Start all, keep them running, stop all in order."""
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        self._selector.register(self._wake, selectors.EVENT_READ, self._drain)
        self._start_after("")
        while not self._stopping:
            self._turn(self._next_start())
            for child in self._children:
                if child.again_at is not None and child.again_at <= time.monotonic() and not self._stopping:
                    self._start(child)
        self._stop_all()

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)

    def _next_start(self) -> float | None:
        """Seconds until the next process is to be started again; None if none is."""
        times = [child.again_at for child in self._children if child.again_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _turn(self, timeout: float | None) -> None:
        """Wait for something to happen and deal with it."""
        for key, _ in self._selector.select(timeout):
            callback: Callable[[], None] = key.data
            callback()

    def _start_after(self, name: str) -> None:
        """Start for the first time what dials the process `name`; earlier it would dial in vain, and back off."""
        for child in self._children:
            if child.process.after == name and not child.starts:
                self._start(child)
        self._write_state()

    def _start(self, child: Child) -> None:
        held = [
            descriptor for other in self._children for descriptor in (other.handle, other.notice) if descriptor >= 0
        ]
        child.start(self._layout, self._services, [*self._ours, *self._report.descriptors(), *held])
        self._selector.register(child.handle, selectors.EVENT_READ, lambda: self._on_end(child))
        self._selector.register(child.notice, selectors.EVENT_READ, lambda: self._on_word(child))

    def _on_word(self, child: Child) -> None:
        if child.notice < 0 or not child.hear():
            return
        self._selector.unregister(child.notice)
        child.silence()
        if child.state == "ready":
            self._start_after(child.process.name)
            self._report.say({"process": child.process.name, "state": "ready"})
            if all(other.state == "ready" for other in self._children):
                self._report.say({"state": "ready"})

    def _on_end(self, child: Child) -> None:
        self._selector.unregister(child.handle)
        if child.notice >= 0:
            self._selector.unregister(child.notice)
        code = child.ended(self._jitter.random)
        self._write_state()
        if not self._stopping:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            log(f"{child.process.name} ended with {how}; start {child.starts + 1} follows")
            self._report.say({"process": child.process.name, "state": "ended", "how": how, "in_a_row": child.failures})

    def _stop_all(self) -> None:
        """Stop the processes, those first that need the others."""
        for role in ORDER_OF_STOPPING:
            group = [child for child in self._children if child.process.role == role]
            for child in group:
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + self._layout.stop_seconds
            while any(child.pid for child in group):
                left = deadline - time.monotonic()
                if left <= 0:
                    for child in group:
                        if child.pid:
                            log(f"{child.process.name} does not stop; it is killed")
                            child.signal(signal.SIGKILL)
                    left = 1.0
                self._turn(left)
        with contextlib.suppress(FileNotFoundError):
            (Path(self._layout.state) / STATE_FILE).unlink()

    def _write_state(self) -> None:
        own = os.getpid()
        content = {
            "pid": own,
            "start_time": linux.start_time(own),
            "ready": all(child.state == "ready" for child in self._children),
            "processes": [child.as_values() for child in self._children],
        }
        write_whole(Path(self._layout.state) / STATE_FILE, json.dumps(content, indent=1))


class Report:
    """Who started us, as long as they listen."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def descriptors(self) -> list[int]:
        """What a fork must close, so that the listener sees when we have ended."""
        return [] if self._descriptor is None else [self._descriptor]

    def say(self, what: dict[str, Any]) -> None:
        """One line of JSON; a listener that has gone is told no more."""
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, json.dumps(what).encode() + b"\n")
        except (BrokenPipeError, BlockingIOError):
            os.close(self._descriptor)
            self._descriptor = None


def write_whole(path: Path, content: str) -> None:
    """Replace a file so that a reader never sees half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(content)
    fresh.replace(path)


def log(line: str) -> None:
    """A line in the supervisor's own log, which is its standard error."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}", file=sys.stderr, flush=True)


def take_lock(state: Path) -> int | None:
    """Hold the state directory for as long as this process lives; None if another one holds it."""
    descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def main(arguments: list[str]) -> int:
    """Be the supervisor of the state directory in `arguments`; returns the exit code."""
    state = Path(arguments[0])
    if arguments[2] == "stay":
        linux.die_with_parent(signal.SIGTERM, os.getppid())
    elif os.fork():
        os._exit(0)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a library that starts threads when it is imported
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    report_to = os.dup(1)
    os.set_blocking(report_to, False)
    report = Report(report_to)
    os.dup2(2, 1)
    lock = take_lock(state)
    if lock is None:
        report.say({"state": "clash"})
        return 5
    report.say({"state": "importing", "pid": os.getpid(), "start_time": linux.start_time(os.getpid())})
    # structlog draws tracebacks with rich where that is installed; services log JSON, and this import takes longer
    # than forking all of them.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    services = importlib.import_module(arguments[1])
    text = sys.stdin.read()
    if not text.strip():
        return 0  # who started us has found that there is nothing to start
    layout = Layout.from_json(text)
    write_whole(state / LAYOUT_FILE, text)
    if linux.thread_count() != 1:
        log(f"{linux.thread_count()} threads run before the first fork; an import has started them")
    linux.name_process("bdw-fed-up")
    gc.collect()
    gc.disable()
    gc.freeze()
    Supervisor(layout, services, report, [lock]).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
