"""One node daemon's live stream: who it is, how it is, and the commands that wait for the connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from bdw_fed.v1 import control_plane_pb2, node_pb2

_RESPONSE_BYTES = 1 << 20
_WAITING_BYTES = 64 << 20


class Attached:
    """A node from its hello to the end of its stream."""

    def __init__(self, hello: node_pb2.NodeHello) -> None:
        self.node = hello.node
        self.incarnation = hello.incarnation
        self.data_address = hello.data_address
        self.workers: dict[str, node_pb2.WorkersChanged] = {}
        self.closed = asyncio.Event()
        self._status = hello.status
        self._commands: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()

    @property
    def status(self) -> control_plane_pb2.NodeStatus:
        """What the node said of itself last."""
        return self._status

    @status.setter
    def status(self, status: control_plane_pb2.NodeStatus) -> None:
        status.name = self.node
        status.ready = True
        status.data_address = status.data_address or self.data_address
        self._status = status

    def tell(self, commands: Sequence[bytes]) -> None:
        """Send these. A node that has not read 64 MiB of them is given up: it comes back and says what it has."""
        self._commands.extend(commands)
        self._bytes += sum(len(command) for command in commands)
        if self._bytes > _WAITING_BYTES:
            self.close()
        self._wake.set()

    def close(self) -> None:
        """End the stream."""
        self.closed.set()

    async def responses(self) -> AsyncIterator[node_pb2.AttachResponse]:
        """What is ready, in as few messages as their size allows, again and again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._commands:
                response = node_pb2.AttachResponse()
                size = 0
                while self._commands and size < _RESPONSE_BYTES:
                    command = self._commands.popleft()
                    response.commands.add().MergeFromString(command)
                    size += len(command)
                self._bytes -= size
                yield response
