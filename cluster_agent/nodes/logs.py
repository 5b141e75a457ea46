"""What tasks write, read from the nodes where they ran: one question to all nodes, one stream of answers.

Answers wait for a slow reader in a bounded queue. What does not fit is dropped, and the next answer says how much.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable

from bdw_fed.v1 import control_plane_pb2, node_pb2

_WAITING = 1_024


class _Reading:
    """One question: the nodes that have not ended, and the answers that wait."""

    def __init__(self, request: control_plane_pb2.LogsRequest) -> None:
        self.request = request
        self.nodes: set[str] = set()
        self.chunks: deque[control_plane_pb2.LogsResponse] = deque()
        self.left_out = 0
        self.wake = asyncio.Event()

    def put(self, chunk: control_plane_pb2.LogsResponse) -> None:
        if len(self.chunks) >= _WAITING:
            self.left_out += len(chunk.data)
            return
        chunk.left_out += self.left_out
        self.left_out = 0
        self.chunks.append(chunk)
        self.wake.set()

    def ended(self, node: str) -> None:
        self.nodes.discard(node)
        self.wake.set()


class LogReaders:
    """All questions that are open. `tell` sends commands to a node, `attached` names those that are there."""

    def __init__(
        self, cluster: str, tell: Callable[[str, list[bytes]], None], attached: Callable[[], Iterable[str]]
    ) -> None:
        self._cluster = cluster
        self._tell = tell
        self._attached = attached
        self._open: dict[int, _Reading] = {}
        self._numbers = itertools.count(1)

    async def read(self, request: control_plane_pb2.LogsRequest) -> AsyncGenerator[control_plane_pb2.LogsResponse]:
        """What the cluster's nodes have; with `follow`, what comes too, until the iteration is left."""
        if request.cluster not in ("", self._cluster):
            return
        number = next(self._numbers)
        reading = self._open[number] = _Reading(request)
        try:
            for node in self._attached():
                self._ask(number, reading, node)
            while reading.chunks or reading.nodes or request.follow:
                if not reading.chunks:
                    await reading.wake.wait()
                    reading.wake.clear()
                while reading.chunks:
                    yield reading.chunks.popleft()
        finally:
            del self._open[number]
            stop = node_pb2.NodeCommand(stop_logs=node_pb2.StopLogs(query=number)).SerializeToString()
            for node in reading.nodes:
                self._tell(node, [stop])

    def joined(self, node: str) -> None:
        """A node is there: those who follow want to hear it too."""
        for number, reading in self._open.items():
            if reading.request.follow:
                self._ask(number, reading, node)

    def lost(self, node: str) -> None:
        """A node is gone."""
        for reading in self._open.values():
            reading.ended(node)

    def chunk(self, node: str, chunk: node_pb2.LogChunk) -> None:
        """A node has answered."""
        reading = self._open.get(chunk.query)
        if reading is None:
            return
        if chunk.HasField("logs"):
            chunk.logs.cluster = self._cluster
            chunk.logs.node = node
            reading.put(chunk.logs)
        if chunk.end:
            reading.ended(node)

    def _ask(self, number: int, reading: _Reading, node: str) -> None:
        reading.nodes.add(node)
        command = node_pb2.NodeCommand(logs=node_pb2.ReadLogs(query=number, request=reading.request))
        self._tell(node, [command.SerializeToString()])
