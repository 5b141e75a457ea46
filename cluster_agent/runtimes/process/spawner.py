"""A small process beside the daemon that starts the workers, and outlives the daemon just long enough to end them.

The daemon has threads and much memory, so it must not fork; this process has neither, so what has to happen between
fork and exec (session, limits, descriptors, death signal) can be plain code, and a warm interpreter is a fork away.
Programs without limits need none of that: posix_spawn starts them, at a third of the price of a fork of an interpreter.
Stands alone, on the standard library: `python -I spawner.py FD OWNER MEMORY`.

Over the socket FD come requests, length-prefixed JSON, several at a time. A request with "descriptors" is told with so
many of them passed along:

    {"slot", "env", "descriptors": 2}    a place for programs, one after another: their standard output and error
    {"slot", "id", "argv", "env", "directory", "memory", "disk"}    execute a program there; `env` is added
    {"slot"}                             no more of that place
    {"id", "function", "env", "descriptors": 3}    become an interpreter that serves its control socket
    {"id", "signal"}                     send it to a child's group

Back go {"started": id, "pid"} and {"failed": id, "error"} of interpreters, and of all children {"exited": id, "status",
"peak_memory", "error", "strays"}: why it could not be executed, and whether it has left processes behind. A child leads
a session and a process group of its own. When it ends its group is killed before that is told, and so is whatever of it
escaped to another group and became our orphan: it is known by its session, or by BDW_FED_WORKER in its environment.
When the socket ends, the daemon is gone: everything is killed, and the directory MEMORY removed (empty: there is none).
Should this process be killed, an interpreter is, too; programs are known to the daemon by OWNER in the same variable
(see `sweeping`).
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

MARK = "BDW_FED_WORKER"
_WORKER = "bdw_fed_worker"  # the package of the same name in a pod, see its __main__
_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 16
_DESCRIPTORS = 3
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOKS, _LOOK_AGAIN_MS = 20, 50  # at orphans, until what they are is clear
_CONTROL = 3  # the descriptor of a function's control socket
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class _Child(NamedTuple):
    """A child that was forked has the end of a pipe that tells why exec failed."""

    number: int
    why: int | None = None


class _Slot(NamedTuple):
    """Where programs write, and the environment that they have in common."""

    descriptors: list[int]
    env: dict[str, str]


class Spawner:
    """The children by pid, and the conversation with the daemon."""

    def __init__(
        self,
        connection: socket.socket,
        owner: str,
        serve: Callable[[int], None],
        children: Callable[[], list[int]],
        programs: ModuleType,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._serve = serve
        self._orphans = children
        self._programs = programs
        self._children: dict[int, _Child] = {}
        self._looks = 0  # at orphans of whom it is not clear yet whose they are
        self._ended: set[int] = set()  # former children, as long as there may be anything left of their sessions
        self._slots: dict[int, _Slot] = {}
        self._buffer = bytearray()
        self._passed: deque[int] = deque()
        self._said = bytearray()
        self._null = os.open(os.devnull, os.O_RDONLY)
        try:
            self._listed = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        except OSError:  # a kernel without that file
            self._listed = -1
        self._wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the daemon decides when we end

    def run(self) -> None:
        """Serve until the daemon is gone, then leave nothing behind."""
        connection = self._connection.fileno()
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            while True:
                ready = [descriptor for descriptor, _ in poll.poll(_LOOK_AGAIN_MS if self._looks else None)]
                if not ready:
                    self._looks -= 1
                    self._end_orphans()
                if self._wake in ready:
                    os.read(self._wake, 4096)
                    self._reap()
                if connection in ready and not self._requests():
                    return
                if self._said:
                    said, self._said = self._said, bytearray()
                    self._connection.sendall(said)
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            self._end_everything()

    # ------------------------------------------------------------------------------------------------- requests

    def _requests(self) -> bool:
        """Do what has been asked for, as far as it is here; False at the end of the conversation."""
        data, passed, _, _ = socket.recv_fds(self._connection, _READ_BYTES, _DESCRIPTORS)
        if not data:
            return False
        for descriptor in passed:
            os.set_inheritable(descriptor, False)
        self._buffer += data
        self._passed.extend(passed)  # they come with the first byte of their request, and in order
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(self._buffer, at)[0]
            if len(self._buffer) < end:
                break
            self._obey(json.loads(self._buffer[at + _LENGTH.size : end]))
            at = end
        del self._buffer[:at]
        return True

    def _obey(self, order: dict[str, Any]) -> None:
        descriptors = [self._passed.popleft() for _ in range(order.get("descriptors", 0))]
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
                self._find(argv[0], env),
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
            self._say({"exited": order["id"], "status": 127 << 8, "peak_memory": 0, "error": f"{argv[0]}: {why}"})
            return
        self._children[pid] = _Child(order["id"])

    # -------------------------------------------------------------------------------------------------- forking

    def _fork(self, order: dict[str, Any], descriptors: list[int]) -> None:
        program = "argv" in order
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            why = f"no process could be made: {error.strerror}"
            if program:
                self._say({"exited": order["id"], "status": 127 << 8, "peak_memory": 0, "error": why})
            else:
                self._say({"failed": order["id"], "error": why})
            return
        if pid == 0:
            self._child(order, descriptors, writer)
        os.close(writer)
        self._children[pid] = _Child(order["id"], reader)
        if not program:
            self._say({"started": order["id"], "pid": pid})

    def _child(self, order: dict[str, Any], descriptors: list[int], tell: int) -> None:
        """In the child: become what was ordered. Never returns."""
        code = 127
        try:
            parent = os.getppid()
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(code)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for place, descriptor in enumerate((self._null, *descriptors)):
                os.dup2(descriptor, place, inheritable=True)
            if "argv" in order:
                self._exec(order, tell)
            tell = os.dup2(tell, _CONTROL + 1, inheritable=False)
            os.closerange(tell + 1, 1 << 16)
            os.environ.clear()
            os.environ.update(order["env"])
            os.chdir("/")
            self._serve(_CONTROL)
            code = 0
        except BaseException as error:
            import contextlib

            with contextlib.suppress(OSError):
                os.write(tell, f"{type(error).__name__}: {error}".encode()[:4096])
        finally:
            _flush_and_exit(code)

    def _exec(self, order: dict[str, Any], tell: int) -> None:
        for number in self._programs.DEFAULTS:
            signal.signal(number, signal.SIG_DFL)
        high = os.dup2(tell, 255, inheritable=False)
        os.closerange(3, high)
        os.closerange(high + 1, 1 << 16)
        try:
            os.chdir(order["directory"])
            for name, limit in (("memory", resource.RLIMIT_AS), ("disk", resource.RLIMIT_FSIZE)):
                if order[name]:
                    resource.setrlimit(limit, (order[name], order[name]))
            os.execve(self._find(order["argv"][0], order["env"]), order["argv"], order["env"])  # noqa: S606
        except OSError as error:
            os.write(high, f"{order['argv'][0]}: {error.strerror}".encode()[:4096])
            os._exit(127)

    # --------------------------------------------------------------------------------------------------- ending

    def _reap(self) -> None:
        while True:
            try:
                waiting = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if waiting is None:
                self._looks = _LOOKS
                self._end_orphans()
                return
            pid = waiting.si_pid
            if pid in self._children:
                _kill_group(pid)  # while its leader still holds the number
            _, status, usage = os.wait4(pid, 0)
            if pid in self._children:
                self._tell_end(pid, status, usage.ru_maxrss << 10)

    def _tell_end(self, pid: int, status: int, peak_memory: int) -> None:
        number, reader = self._children.pop(pid)
        self._ended.add(pid)
        strays = self._end_orphans(number)
        why = ""
        if reader is not None:
            os.set_blocking(reader, False)
            try:
                why = os.read(reader, 4096).decode("utf-8", "replace")
            except BlockingIOError:
                why = ""
            os.close(reader)
        self._say({"exited": number, "status": status, "peak_memory": peak_memory, "error": why, "strays": strays})

    def _end_orphans(self, ended: int = 0) -> bool:
        """Kill those who left their group and outlived their worker; whether any may be of the one that `ended`."""
        strangers = [pid for pid in self._all_children() if pid not in self._children]
        if not strangers:
            self._ended.clear()
            self._looks = 0
            return False
        alive = {child.number for child in self._children.values()}
        found = unclear = False
        for pid in strangers:
            try:
                session = os.getsid(pid)
                if session in self._ended and session not in self._children:
                    _kill_group(os.getpgid(pid))
                    found = True
                    continue
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                if not environment:  # dead already; without any; or about to become another program, and not yet it
                    if _is_dead(pid):
                        continue
                    unclear = True
                number = _marked(environment)
                found = found or number in (None, ended)
                if number not in alive and (number is not None or not alive):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        if not unclear:
            self._looks = 0
        return found

    def _all_children(self) -> list[int]:
        """Our children, and orphans that became ours."""
        if self._listed < 0:
            return self._orphans()
        listed = os.pread(self._listed, _READ_BYTES, 0)
        if len(listed) == _READ_BYTES:
            return self._orphans()
        return [int(pid) for pid in listed.split()]

    def _signal(self, number: int, which: int) -> None:
        for pid, child in self._children.items():
            if child.number == number:
                try:
                    os.killpg(pid, which)
                except ProcessLookupError:
                    os.kill(pid, which)  # forked just now, not a leader yet

    def _end_everything(self) -> None:
        for pid in self._children:
            _kill_group(pid)
        while True:
            left = self._orphans()
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    continue

    def _find(self, program: str, env: dict[str, str]) -> str:
        """Where a program is. OSError if it is nowhere."""
        return self._programs.find(program, env.get("PATH", os.defpath))  # type: ignore[no-any-return]

    def _say(self, message: dict[str, Any]) -> None:
        """Something that goes to the daemon at the end of this turn."""
        body = json.dumps(message).encode()
        self._said += _LENGTH.pack(len(body)) + body


def _marked(environment: bytes) -> int | None:
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        number = value.partition(b"@")[0]
        if name == MARK.encode() and number.isdigit():
            return int(number)
    return None


def _is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _flush_and_exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


def _load_worker() -> None:
    """The package that lies beside this module, under a name that is nobody else's."""
    folder = Path(__file__).with_name("worker")
    spec = importlib.util.spec_from_file_location(
        _WORKER, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = sys.modules[_WORKER] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def main(fd: int, owner: str, memory: str) -> None:
    """Serve the daemon at the other end of `fd`."""
    connection = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    while os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) <= _CONTROL:
        continue  # so that no descriptor of ours has a number that a child's will be given
    os.setsid()
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _load_worker()
    modules = ("serving", "system", "programs")
    serving, system, programs = (importlib.import_module(f"{_WORKER}.{name}") for name in modules)
    gc.collect()
    gc.freeze()
    Spawner(connection, owner, serving.serve, system.children, programs).run()
    if memory:
        shutil.rmtree(memory, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
