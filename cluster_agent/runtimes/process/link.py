"""The daemon's end of the conversation with the spawner: children as objects with a future for their end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_agent.runtimes.errors import StartError

_LENGTH = struct.Struct("<I")
_SPAWNER = Path(__file__).with_name("spawner.py")


@dataclass(frozen=True)
class Exit:
    """How a process ended: its wait status, the most memory it used in bytes, and why exec failed if it did."""

    status: int
    peak_memory: int = 0
    error: str = ""

    @property
    def signal(self) -> int:
        """The signal that ended it, or 0."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def code(self) -> int:
        """Its exit code, or minus the signal's number."""
        return -self.signal if self.signal else os.WEXITSTATUS(self.status)


class Child:
    """A process that the spawner has forked for us; it leads its own process group."""

    def __init__(self, link: SpawnerLink, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.pid: asyncio.Future[int] = loop.create_future()
        self.exit: asyncio.Future[Exit] = loop.create_future()
        self._link = link

    def send_signal(self, which: int) -> None:
        """Send a signal to its whole group, if it still runs."""
        if not self.exit.done():
            self._link.order({"id": self.number, "signal": which})


class SpawnerLink:
    """One spawner process, started by `open` and gone, with all children, after `close`."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._orders: asyncio.Queue[tuple[bytes, list[int]]] = asyncio.Queue()
        self._children: dict[int, Child] = {}
        self._numbers = itertools.count(1)
        self.gone = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether children can be started."""
        return self._reader is not None and not self._reader.done()

    @property
    def pid(self) -> int:
        """The spawner's process id."""
        return self._process.pid if self._process else 0

    async def open(self) -> None:
        """Start the spawner. StartError if the interpreter can't be executed."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: ASYNC220 - once, at start; vfork takes a millisecond
                    [self._python, "-I", "-X", "utf8", str(_SPAWNER), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                )
            except OSError as error:
                ours.close()
                raise StartError(f"{self._python} can't be started: {error.strerror}") from None
        ours.setblocking(False)
        self._connection = ours
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())

    async def close(self) -> None:
        """End the spawner, which ends all children; returns when it is gone."""
        if self._process is None or self._connection is None:
            return
        for task in (self._writer, self._reader):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        while not self._orders.empty():
            for descriptor in self._orders.get_nowait()[1]:
                os.close(descriptor)
        self._connection.close()
        process, self._process = self._process, None
        await asyncio.to_thread(process.wait)
        self._all_lost(kill=False)

    def start(self, order: dict[str, Any], descriptors: Sequence[int]) -> Child:
        """Fork a child as ordered. Descriptors become 1, 2 and 3 in it; ours of them are closed here."""
        child = Child(self, next(self._numbers))
        if not self.alive:
            for descriptor in descriptors:
                os.close(descriptor)
            child.pid.set_exception(StartError("the process that starts workers is gone"))
            return child
        self._children[child.number] = child
        self.order({**order, "id": child.number}, list(descriptors))
        return child

    def order(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Queue a message to the spawner."""
        body = json.dumps(message).encode()
        self._orders.put_nowait((_LENGTH.pack(len(body)) + body, descriptors or []))

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        connection = self._connection
        assert connection is not None
        while True:
            data, descriptors = await self._orders.get()
            try:
                # A stream socket with room for one byte takes the descriptors with it.
                while True:
                    try:
                        sent = (
                            socket.send_fds(connection, [data], descriptors) if descriptors else connection.send(data)
                        )
                        break
                    except BlockingIOError:
                        await _writable(connection)
                await loop.sock_sendall(connection, data[sent:])
            except OSError:
                return  # the reader sees the end too, and tells
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        connection = self._connection
        assert connection is not None
        buffer = bytearray()
        try:
            while data := await loop.sock_recv(connection, 1 << 16):
                buffer += data
                while len(buffer) >= _LENGTH.size:
                    end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
                    if len(buffer) < end:
                        break
                    message = json.loads(buffer[_LENGTH.size : end])
                    del buffer[:end]
                    self._heard(message)
        except OSError:
            pass
        self._all_lost(kill=True)

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
                child.exit.set_result(Exit(message["status"], message["peak_memory"], message["error"]))

    def _all_lost(self, *, kill: bool) -> None:
        """The spawner is gone, and its children with it; `kill`: it could not see to their groups, so we do."""
        self.gone.set()
        children, self._children = self._children, {}
        for child in children.values():
            if not child.pid.done():
                child.pid.set_exception(StartError("the process that starts workers is gone"))
                child.pid.exception()
            elif kill and not child.pid.cancelled() and child.pid.exception() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid.result(), signal.SIGKILL)
            if not child.exit.done():
                child.exit.set_result(Exit(int(signal.SIGKILL)))


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(connection, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(connection)
