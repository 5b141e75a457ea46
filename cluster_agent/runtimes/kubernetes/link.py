"""The daemon's end of the conversation with a starter: the spawner's, by a socket that the starter listens on.

A starter is there once its socket is. It serves one daemon at a time, and says hello when all that the one before had
started is gone; so a link that has come about is one to an empty pod.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from pathlib import Path
from typing import Final

import msgspec

from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.link import SpawnerLink

VERSION: Final = 1  # of the conversation
_LENGTH = struct.Struct("<I")
_MOST_HELLO = 1 << 20
_OURS_OF_KUBERNETES = "KUBERNETES_"  # variables that no image has said


class Hello(msgspec.Struct):
    """What a starter says first: of itself, and of the image that it is in."""

    hello: int
    uid: int = 0
    python: list[str] = []
    env: dict[str, str] = {}


class NotYetError(Exception):
    """Nobody listens there yet, or who did is gone again."""


class StarterLink(SpawnerLink):
    """A link to one pod's starter. `open` connects; when this is closed the starter ends the pod's processes."""

    def __init__(self, path: Path) -> None:
        super().__init__("")
        self._path = path
        self.hello = Hello(0)

    async def open(self) -> None:
        """Connect, and wait for the starter's turn to us. NotYetError; StartError if it never can be."""
        self._loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            self.hello = await self._greeted(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._loop.add_reader(connection, self._readable)

    @property
    def present(self) -> bool:
        """Whether the starter means to go on: it takes its socket away when its pod is about to end."""
        return self.alive and self._path.exists()

    def environment(self) -> dict[str, str]:
        """What a step's processes find of the image's own environment."""
        env = {name: value for name, value in self.hello.env.items() if not name.startswith(_OURS_OF_KUBERNETES)}
        for name in ("HOSTNAME", "HOME"):
            env.pop(name, None)
        env.setdefault("PATH", os.defpath)
        env.setdefault("LANG", "C.UTF-8")
        return env

    async def _greeted(self, connection: socket.socket) -> Hello:
        try:
            await self._loop.sock_connect(connection, str(self._path))
            (length,) = _LENGTH.unpack(await self._exactly(connection, _LENGTH.size))
            if length > _MOST_HELLO:
                raise StartError(f"{self._path}: what listens there is no starter")
            said = json.loads(await self._exactly(connection, length))
            hello = msgspec.convert(said, Hello)
        except (FileNotFoundError, ConnectionError) as error:
            raise NotYetError(str(error)) from None
        except PermissionError:
            whose = f"user {os.getuid()}, who the node daemon is; its pods must be of the same user"
            raise StartError(f"{self._path} may not be opened by {whose}") from None
        except (ValueError, msgspec.ValidationError, OSError) as error:
            raise StartError(f"{self._path}: what listens there is no starter: {error}") from None
        if hello.hello != VERSION:
            raise StartError(f"the pod's starter speaks version {hello.hello}, and this daemon version {VERSION}")
        return hello

    async def _exactly(self, connection: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await self._loop.sock_recv(connection, count - len(data))
            if not piece:
                raise NotYetError("it was closed")
            data += piece
        return data

    def _end_what_is_left(self) -> None:
        """Process ids are the pod's own: the starter, or the kernel at its end, sees to them."""
