"""A small process beside the daemon that forks the workers, and outlives the daemon just long enough to end them.

The daemon has threads and much memory, so it must not fork; this process has neither, so what has to happen between
fork and exec (session, limits, descriptors, death signal) can be plain code, and a warm interpreter is a fork away.
Stands alone, on the standard library: `python -I spawner.py FD`.

Over the socket FD come requests, length-prefixed JSON, with the child's standard output, standard error and, for a
function, its control socket as passed descriptors; back go {"started": id, "pid"}, {"exited": id, "status",
"peak_memory"} and {"failed": id, "error"}. A child leads a session and a process group of its own. When it ends its
group is killed before that is told, and so is whatever of it escaped to another group and became our orphan: it is
known by BDW_FED_WORKER in its environment. When the socket ends, the daemon is gone: everything is killed.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

MARK = "BDW_FED_WORKER"
_LENGTH = struct.Struct("<I")
_DESCRIPTORS = 3
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CONTROL = 3  # the descriptor of a function's control socket
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Spawner:
    """The children by pid, and the conversation with the daemon."""

    def __init__(self, connection: socket.socket, worker: ModuleType) -> None:
        self._connection = connection
        self._worker = worker
        self._children: dict[int, tuple[int, int]] = {}  # pid -> (id, end of a pipe that tells why exec failed)
        self._wake, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(wake_writer, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the daemon decides when we end

    def run(self) -> None:
        """Serve until the daemon is gone, then leave nothing behind."""
        try:
            while True:
                ready, _, _ = select.select([self._connection.fileno(), self._wake], [], [])
                if self._wake in ready:
                    os.read(self._wake, 4096)
                    self._reap()
                if self._connection.fileno() in ready and not self._request():
                    return
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            self._end_everything()

    # -------------------------------------------------------------------------------------------------- starting

    def _request(self) -> bool:
        head, descriptors, _, _ = socket.recv_fds(self._connection, _LENGTH.size, _DESCRIPTORS)
        if not head:
            return False
        while len(head) < _LENGTH.size:
            head += self._exactly(_LENGTH.size - len(head))
        order = json.loads(self._exactly(_LENGTH.unpack(head)[0]))
        try:
            if "signal" in order:
                self._signal(order["id"], order["signal"])
            else:
                self._start(order, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, order: dict[str, Any], descriptors: list[int]) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            self._say({"failed": order["id"], "error": f"no process could be made: {error.strerror}"})
            return
        if pid == 0:
            self._child(order, descriptors, writer)
        os.close(writer)
        self._children[pid] = (order["id"], reader)
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
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            null = os.open(os.devnull, os.O_RDONLY)
            _take(null, 0)
            for place, descriptor in enumerate(descriptors, 1):
                _take(descriptor, place)
            if "argv" in order:
                self._exec(order, tell)
            tell = os.dup2(tell, _CONTROL + 1, inheritable=False)
            os.closerange(tell + 1, 1 << 16)
            os.environ.clear()
            os.environ.update(order["env"])
            os.chdir("/")
            self._worker.serve(_CONTROL)
            code = 0
        except BaseException as error:
            import contextlib

            with contextlib.suppress(OSError):
                os.write(tell, f"{type(error).__name__}: {error}".encode()[:4096])
        finally:
            _flush_and_exit(code)

    def _exec(self, order: dict[str, Any], tell: int) -> None:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them; programs rely on them
        high = os.dup2(tell, 255, inheritable=False)
        os.closerange(3, high)
        os.closerange(high + 1, 1 << 16)
        try:
            os.chdir(order["directory"])
            for name, limit in (("memory", resource.RLIMIT_AS), ("disk", resource.RLIMIT_FSIZE)):
                if order[name]:
                    resource.setrlimit(limit, (order[name], order[name]))
            environment = {**order["env"], MARK: str(order["id"])}
            os.execvpe(order["argv"][0], order["argv"], environment)  # noqa: S606
        except OSError as error:
            os.write(high, f"{order['argv'][0]}: {error.strerror}".encode()[:4096])
            os._exit(127)

    # --------------------------------------------------------------------------------------------------- ending

    def _reap(self) -> None:
        while True:
            try:
                waiting = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                waiting = None
            if waiting is None:
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
        self._end_orphans()
        os.set_blocking(reader, False)
        try:
            why = os.read(reader, 4096).decode("utf-8", "replace")
        except BlockingIOError:
            why = ""
        os.close(reader)
        self._say({"exited": number, "status": status, "peak_memory": peak_memory, "error": why})

    def _end_orphans(self) -> None:
        """Kill those who left their worker's group and outlived the worker."""
        alive = {number for number, _ in self._children.values()}
        for pid in self._worker.children():
            if pid in self._children:
                continue
            try:
                number = _marked(Path(f"/proc/{pid}/environ").read_bytes())
                if number not in alive and (number is not None or not alive):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue

    def _signal(self, number: int, which: int) -> None:
        for pid, (known, _) in self._children.items():
            if known == number:
                try:
                    os.killpg(pid, which)
                except ProcessLookupError:
                    os.kill(pid, which)  # forked just now, not a leader yet

    def _end_everything(self) -> None:
        for pid in self._children:
            _kill_group(pid)
        while True:
            left = self._worker.children()
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    continue

    # --------------------------------------------------------------------------------------------------- inside

    def _say(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._connection.sendall(_LENGTH.pack(len(body)) + body)

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._connection.recv(count - len(data))
            if not piece:
                raise BrokenPipeError("the daemon is gone")
            data += piece
        return bytes(data)


def _take(descriptor: int, number: int) -> None:
    """Make `descriptor` be `number`, open across exec."""
    if descriptor == number:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(descriptor, number, inheritable=True)


def _marked(environment: bytes) -> int | None:
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == MARK.encode() and value.isdigit():
            return int(value)
    return None


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


def _load_worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bdw_fed_worker", Path(__file__).with_name("worker.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bdw_fed_worker"] = module
    spec.loader.exec_module(module)
    return module


def main(fd: int) -> None:
    """Serve the daemon at the other end of `fd`."""
    connection = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    while os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) <= _CONTROL:
        continue  # so that no descriptor of ours has a number that a child's will be given
    os.setsid()
    os.chdir("/")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    worker = _load_worker()
    gc.collect()
    gc.freeze()
    Spawner(connection, worker).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
