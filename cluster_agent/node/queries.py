"""Answers questions about logs: one asyncio task for each, which waits whenever the link has enough to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.data.errors import DataError
from cluster_agent.node.link import AgentLink
from cluster_agent.node.logs import Logs

_STREAMS = {1: "stdout", 2: "stderr"}


class LogQueries:
    """The questions that are being answered over `link`."""

    def __init__(self, logs: Logs, link: Callable[[], AgentLink], cluster: str, node: str) -> None:
        self._logs = logs
        self._link = link
        self._who = (cluster, node)
        self._answering: dict[int, asyncio.Task[None]] = {}

    def read(self, order: node_pb2.ReadLogs) -> None:
        """Begin to answer."""
        self.stop(order.query)
        task = self._answering[order.query] = asyncio.create_task(self._answer(order))
        task.add_done_callback(lambda done: self._ended(order.query, done))

    def stop(self, query: int) -> None:
        """The answer is not wanted any more."""
        task = self._answering.pop(query, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop all answers."""
        tasks = list(self._answering.values())
        for query in list(self._answering):
            self.stop(query)
        await asyncio.gather(*tasks, return_exceptions=True)

    def lost(self) -> None:
        """Whoever asked is gone."""
        for query in list(self._answering):
            self.stop(query)

    def _ended(self, query: int, task: asyncio.Task[None]) -> None:
        if self._answering.get(query) is task:
            del self._answering[query]

    async def _answer(self, order: node_pb2.ReadLogs) -> None:
        wanted = order.request
        cluster, node = self._who
        link = self._link()
        try:
            pieces = self._logs.read(wanted.namespace, wanted.run, wanted.step, wanted.task, wanted.follow)
            async with aclosing(pieces):
                async for piece in pieces:
                    await link.room()
                    told = control_plane_pb2.LogsResponse(
                        cluster=cluster,
                        node=node,
                        step=piece.log.step,
                        task=piece.log.task,
                        attempt=piece.log.attempt,
                        stream=_STREAMS[piece.stream],
                        data=piece.data,
                        left_out=piece.left_out,
                    )
                    link.tell(node_pb2.NodeMessage(log=node_pb2.LogChunk(query=order.query, logs=told)))
        except (DataError, OSError):
            pass  # a run with such a name has no logs here
        link.tell(node_pb2.NodeMessage(log=node_pb2.LogChunk(query=order.query, end=True)))
