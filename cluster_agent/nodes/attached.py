"""One node daemon's live stream: who it is, how it is, and the commands and orders that wait for the connection.

What waits leaves in as few messages as may be, in its order. In a message the node takes the commands before the
orders, so a command that comes after an order begins a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.coordinator.messages import DiskTold
from cluster_agent.orders import messages
from cluster_agent.orders.messages import Downward
from wire.identity import Identity

_RESPONSE_BYTES: Final = 1 << 20
_WAITING_BYTES: Final = 64 << 20
_ORDER_BYTES: Final = 128  # an order, about; it has one small input most of the time
_ID_BYTES: Final = 24


class Attached:
    """A node from its hello to the end of its stream."""

    def __init__(self, hello: node_pb2.NodeHello, stream: int, identity: Identity) -> None:
        self.stream = stream
        self.identity = identity
        self.node = hello.node
        self.incarnation = hello.incarnation
        self.data_address = hello.data_address
        self.closed = asyncio.Event()
        self._status = hello.status
        self.disk = DiskTold(hello.node, hello.status.disk_free, hello.status.disk_size)  # as the coordinator knows it
        self._waiting: deque[bytes | Downward] = deque()
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

    def tell(self, commands: Sequence[bytes | Downward]) -> None:
        """Send these. A node that has not read 64 MiB of them is given up: it comes back and says what it has."""
        self._waiting.extend(commands)
        self._bytes += sum(map(_size, commands))
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
            while self._waiting:
                yield self._response()

    def _response(self) -> node_pb2.AttachResponse:
        """The next message: commands, then orders, until a command follows again or it is large enough."""
        response = node_pb2.AttachResponse()
        orders: list[Downward] = []
        size = 0
        while self._waiting and size < _RESPONSE_BYTES:
            first = self._waiting[0]
            if not isinstance(first, bytes):
                orders.append(first)
            elif orders:
                break
            else:
                response.commands.add().MergeFromString(first)
            size += _size(first)
            self._waiting.popleft()
        self._bytes -= size
        if orders:
            response.orders = messages.encode(orders)
        return response


def _size(command: bytes | Downward) -> int:
    """Bytes that a command takes on its way, about."""
    match command:
        case bytes():
            return len(command)
        case messages.Work(start=start):
            return len(start)
        case messages.Orders(orders=orders):
            return _ORDER_BYTES * len(orders)
        case messages.Acks(tasks=ids) | messages.Frees(units=ids):
            return _ID_BYTES * len(ids)
        case _:
            return _ID_BYTES
