"""The daemon's end of the conversation with the spawner: children as objects with a future for their end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.sweeping import sweep

_LENGTH = struct.Struct("<I")
_SPAWNER = Path(__file__).with_name("spawner")
_READ_BYTES = 1 << 16
_GONE = "the process that starts workers is gone"


@dataclass(frozen=True)
class Exit:
    """How a process ended: its wait status, the most memory it used in bytes, and why exec failed if it did.

    `strays`: it had left processes behind, which may have written to its standard output or error until just now.
    """

    status: int
    peak_memory: int = 0
    error: str = ""
    strays: bool = False

    @property
    def signal(self) -> int:
        """The signal that ended it, or 0."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def code(self) -> int:
        """Its exit code, or minus the signal's number."""
        return -self.signal if self.signal else os.WEXITSTATUS(self.status)


class Child:
    """A process that the spawner has started for us; it leads its own process group. `pid`: if it is an interpreter."""

    def __init__(self, link: SpawnerLink, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.pid: asyncio.Future[int] = loop.create_future()
        self.exit: asyncio.Future[Exit] = loop.create_future()
        self._link = link

    @property
    def mark(self) -> str:
        """What its processes have in their environment, so that they are known as its own and ours."""
        return f"{self.number}@{self._link.owner}"

    def send_signal(self, which: int) -> None:
        """Send a signal to its whole group, if it still runs."""
        if not self.exit.done():
            self._link.order({"id": self.number, "signal": which})


class SpawnerLink:
    """One spawner process, started by `open` and gone, with all children, after `close`.

    What was left behind by an earlier spawner of the same `owner` is ended before. The directory `memory`, if there is
    one, is removed with it.
    """

    def __init__(self, python: str, owner: str = "", memory: str = "") -> None:
        self._python = python
        self._memory = memory
        self.owner = owner or secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop
        self._outgoing: deque[tuple[bytearray, list[int]]] = deque()  # requests, and what is passed along
        self._flushing: asyncio.Handle | None = None
        self._incoming = bytearray()
        self._children: dict[int, Child] = {}
        self._numbers = itertools.count(1)
        self.gone = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether children can be started."""
        return self._connection is not None

    @property
    def pid(self) -> int:
        """The spawner's process id."""
        return self._process.pid if self._process else 0

    async def open(self) -> None:
        """Start the spawner. StartError if the interpreter can't be executed."""
        await asyncio.to_thread(sweep, self.owner)
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = str(theirs.fileno()), self.owner, self._memory
            try:
                self._process = subprocess.Popen(  # noqa: ASYNC220 - once, at start; vfork takes a millisecond
                    [self._python, "-I", "-X", "utf8", str(_SPAWNER), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                )
            except OSError as error:
                ours.close()
                raise StartError(f"{self._python} can't be started: {error.strerror}") from None
        ours.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._connection = ours
        self._loop.add_reader(ours, self._readable)

    async def close(self) -> None:
        """End the spawner, which ends all children; returns when it is gone."""
        self._disconnect()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(process.wait)
        self._all_lost()

    def start(self, order: dict[str, Any], descriptors: Sequence[int]) -> Child:
        """Fork an interpreter as ordered. Descriptors become 1, 2 and 3 in it; ours of them are closed here."""
        child = self._child(order, descriptors)
        if not self.alive:
            child.pid.set_exception(StartError(_GONE))
        return child

    def slot(self, env: Mapping[str, str], descriptors: Sequence[int]) -> Slot:
        """A place for programs, whose standard output and error these descriptors become; ours are closed here."""
        slot = Slot(self, next(self._numbers))
        self.order({"slot": slot.number, "env": dict(env)}, descriptors)
        return slot

    def execute(self, order: dict[str, Any]) -> Child:
        """Start a program as ordered. StartError if the spawner is gone."""
        if not self.alive:
            raise StartError(_GONE)
        return self._child(order, ())

    def _child(self, order: dict[str, Any], descriptors: Sequence[int]) -> Child:
        child = Child(self, next(self._numbers))
        if self.alive:
            self._children[child.number] = child
        self.order({**order, "id": child.number}, descriptors)
        return child

    # ------------------------------------------------------------------------------------------- the conversation

    def order(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a request at the end of this turn of the loop."""
        if not self.alive:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        body = json.dumps({**message, "descriptors": len(descriptors)} if descriptors else message).encode()
        if descriptors or not self._outgoing:
            self._outgoing.append((bytearray(), list(descriptors)))
        self._outgoing[-1][0].extend(_LENGTH.pack(len(body)) + body)
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while self._outgoing:
                data, descriptors = self._outgoing[0]
                sent = socket.send_fds(connection, [data], descriptors) if descriptors else connection.send(data)
                while descriptors:  # room for one byte takes them all
                    os.close(descriptors.pop())
                if sent == len(data):
                    self._outgoing.popleft()
                else:
                    del data[:sent]
        except BlockingIOError:
            self._loop.add_writer(connection, self._writable)
        except OSError:
            self._flushing = None  # the reader sees the end too, and tells
        else:
            self._flushing = None

    def _writable(self) -> None:
        assert self._connection is not None
        self._loop.remove_writer(self._connection)
        self._flush()

    def _readable(self) -> None:
        assert self._connection is not None
        try:
            data = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            self._end_what_is_left()
            self._all_lost()
            return
        buffer = self._incoming
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(buffer, at)[0]
            if len(buffer) < end:
                break
            self._heard(json.loads(buffer[at + _LENGTH.size : end]))
            at = end
        del buffer[:at]

    def _heard(self, message: dict[str, Any]) -> None:
        if "started" in message:
            child = self._children.get(message["started"])
            if child is not None and not child.pid.done():
                child.pid.set_result(message["pid"])
        elif "failed" in message:
            child = self._children.pop(message["failed"], None)
            if child is not None and not child.pid.done():
                child.pid.set_exception(StartError(message["error"]))
        else:
            child = self._children.pop(message["exited"], None)
            if child is not None and not child.exit.done():
                strays = message.get("strays", False)
                child.exit.set_result(Exit(message["status"], message["peak_memory"], message["error"], strays))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._loop.remove_reader(connection)
        self._loop.remove_writer(connection)
        if self._flushing is not None:
            self._flushing.cancel()
        connection.close()
        for _, descriptors in self._outgoing:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outgoing.clear()

    def _end_what_is_left(self) -> None:
        """The spawner has ended without being asked to: it could not see to its children, so we do."""
        for child in self._children.values():
            if child.pid.done() and not child.pid.cancelled() and child.pid.exception() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid.result(), signal.SIGKILL)
        sweep(self.owner)

    def _all_lost(self) -> None:
        """The spawner is gone, and its children with it."""
        self.gone.set()
        children, self._children = self._children, {}
        for child in children.values():
            if not child.pid.done():
                child.pid.set_exception(StartError(_GONE))
                child.pid.exception()
            if not child.exit.done():
                child.exit.set_result(Exit(int(signal.SIGKILL)))


class Slot:
    """A place where the spawner executes programs, one after another, with the same standard output and error."""

    def __init__(self, link: SpawnerLink, number: int) -> None:
        self.number = number
        self._link = link

    def execute(self, argv: Sequence[str], env: Mapping[str, str], directory: str, memory: int, disk: int) -> Child:
        """Start a program there. `env` is added to the slot's; limits in bytes, 0 = none. StartError."""
        order = {"slot": self.number, "argv": argv, "env": env, "directory": directory}
        return self._link.execute({**order, "memory": memory, "disk": disk})

    def close(self) -> None:
        """No more programs here."""
        self._link.order({"slot": self.number})
