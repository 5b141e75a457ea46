"""The spawner at work: it does what the daemon asks for, and tells of its children's ends.

daemon ── requests ─▶ Conversation ─▶ Spawner ─▶ posix_spawn, or fork and `becoming`
daemon ◀─ started, exited ─────────────── ┘ ◀─ ends of children; what they leave: `orphans`
"""

from __future__ import annotations

import gc
import os
import resource
import select
import shutil
import signal
import socket
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from .becoming import CONTROL, become, find, prctl
from .conversation import Conversation
from .orphans import MARK, Orphans, kill_group

_LOOK_AGAIN_MS = 50  # at orphans
_PR_SET_CHILD_SUBREAPER = 36


class _Slot(NamedTuple):
    """Where programs write, and the environment that they have in common."""

    descriptors: list[int]
    env: dict[str, str]


class Spawner:
    """The children, number by pid. `serve` is what an interpreter does; `programs` finds programs."""

    def __init__(
        self,
        connection: socket.socket,
        owner: str,
        serve: Callable[[int], None],
        listing: Callable[[], list[int]],
        programs: ModuleType,
    ) -> None:
        self._daemon = Conversation(connection)
        self._owner = owner
        self._serve = serve
        self._programs = programs
        self._children: dict[int, int] = {}
        self._whys: dict[int, int] = {}  # of those that were forked the end of a pipe that tells why exec failed
        self._orphans = Orphans(self._children, listing)
        self._slots: dict[int, _Slot] = {}
        self._null = os.open(os.devnull, os.O_RDONLY)
        self._wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the daemon decides when we end

    def run(self) -> None:
        """Serve until the daemon is gone, then leave nothing behind."""
        poll = select.poll()
        poll.register(self._daemon, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            while True:
                ready = [descriptor for descriptor, _ in poll.poll(_LOOK_AGAIN_MS if self._orphans.looks else None)]
                if not ready:
                    self._orphans.look_again()
                if self._wake in ready:
                    os.read(self._wake, 4096)
                    self._reap()
                if self._daemon.fileno() in ready:
                    if not self._daemon.receive():
                        return
                    for order, descriptors in self._daemon.requests():
                        self._obey(order, descriptors)
                self._daemon.flush()
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            self._orphans.end_all()

    # ------------------------------------------------------------------------------------------------- requests

    def _obey(self, order: dict[str, Any], descriptors: list[int]) -> None:
        if "argv" in order:
            self._execute(order, self._slots[order["slot"]])
        elif "function" in order:
            self._fork(order, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
        elif "signal" in order:
            self._signal(order["id"], order["signal"])
        elif descriptors:
            self._slots[order["slot"]] = _Slot(descriptors, order["env"])
        else:
            for descriptor in self._slots.pop(order["slot"]).descriptors:
                os.close(descriptor)

    def _execute(self, order: dict[str, Any], slot: _Slot) -> None:
        """Start a program: with limits by a fork that sets them on itself, without by posix_spawn."""
        argv = order["argv"]
        env = {**slot.env, **order["env"], MARK: f"{order['id']}@{self._owner}"}
        if order["memory"] or order["disk"]:
            self._fork({**order, "env": env}, slot.descriptors)
            return
        try:
            os.chdir(order["directory"])
            pid = os.posix_spawn(
                find(order, env, self._programs),
                argv,
                env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, source, number)
                    for number, source in enumerate((self._null, *slot.descriptors))
                ],
                setsid=True,
                setsigdef=self._programs.DEFAULTS,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._say_not_executed(order, f"{argv[0]}: {why}")
            return
        self._children[pid] = order["id"]

    def _fork(self, order: dict[str, Any], descriptors: list[int]) -> None:
        is_program = "argv" in order
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            why = f"no process could be made: {error.strerror}"
            if is_program:
                self._say_not_executed(order, why)
            else:
                self._daemon.say({"failed": order["id"], "error": why})
            return
        if pid == 0:
            become(order, (self._null, *descriptors), writer, self._serve, self._programs)
        os.close(writer)
        self._children[pid], self._whys[pid] = order["id"], reader
        if not is_program:
            self._daemon.say({"started": order["id"], "pid": pid})

    def _signal(self, number: int, which: int) -> None:
        for pid, child in self._children.items():
            if child == number:
                try:
                    os.killpg(pid, which)
                except ProcessLookupError:
                    os.kill(pid, which)  # forked just now, not a leader yet

    def _say_not_executed(self, order: dict[str, Any], why: str) -> None:
        self._daemon.say({"exited": order["id"], "status": 127 << 8, "peak_memory": 0, "error": why})

    # --------------------------------------------------------------------------------------------------- ending

    def _reap(self) -> None:
        while True:
            try:
                waiting = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if waiting is None:
                self._orphans.look()
                return
            pid = waiting.si_pid
            if pid in self._children:
                kill_group(pid)  # while its leader still holds the number
            _, status, usage = os.wait4(pid, 0)
            if pid in self._children:
                self._tell_end(pid, status, usage.ru_maxrss << 10)

    def _tell_end(self, pid: int, status: int, peak_memory: int) -> None:
        number, why = self._children.pop(pid), self._why(pid)
        strays = self._orphans.left_by(pid, number)
        self._daemon.say(
            {"exited": number, "status": status, "peak_memory": peak_memory, "error": why, "strays": strays}
        )

    def _why(self, pid: int) -> str:
        """Why it has not become what it was to become; empty if it has."""
        reader = self._whys.pop(pid, None)
        if reader is None:
            return ""
        os.set_blocking(reader, False)
        try:
            return os.read(reader, 4096).decode("utf-8", "replace")
        except BlockingIOError:
            return ""
        finally:
            os.close(reader)


def main(fd: int, owner: str, memory: str, serving: ModuleType, system: ModuleType, programs: ModuleType) -> NoReturn:
    """Serve the daemon at the other end of `fd`, and end the process. The modules are the worker's."""
    connection = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    while os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) <= CONTROL:
        continue  # so that no descriptor of ours has a number that a child's will be given
    os.setsid()
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.freeze()  # with what little garbage there is: where that was, interpreters would soon have pages of their own
    gc.enable()
    Spawner(connection, owner, serving.serve, system.children, programs).run()
    if memory:
        shutil.rmtree(memory, ignore_errors=True)
    os._exit(0)  # what we have is not taken apart first: the kernel frees it at once
