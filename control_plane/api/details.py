"""What only the agents know: a run's tasks, logs and events, and their caches; asked of all concerned at once.

The answers come as they come; a cluster that can't be asked is named among them instead of holding up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from control_plane.api.errors import NotFound
from control_plane.federation.agents import Agents
from control_plane.federation.errors import AgentUnreachable
from control_plane.runs import lines

_ANSWER_SECONDS = 10.0
_TASKS = 100
_ORDER = {"failed": 0, "retrying": 1, "running": 2, "fetching": 3, "waiting": 4}
Part = tuple[str, f.QueryReply | str]  # cluster, and a reply or why there is none


class Details:
    """Asks agents and merges their answers."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def tasks(self, run: m.Run) -> tuple[list[cp.TaskInfo], list[str]]:
        """The tasks that matter most just now, and the clusters that could not be asked."""
        request = cp.DescribeRunRequest(namespace=run.namespace, run=lines.name_of(run))
        query = f.Query(namespace=run.namespace, describe=request)
        replies, unreachable = await self._answers(lines.clusters(run), query)
        tasks = [task for reply in replies for task in reply.tasks.tasks]
        tasks.sort(key=lambda task: (_ORDER.get(task.state, 5), -task.seconds))
        return tasks[:_TASKS], unreachable

    async def cached(self, clusters: Sequence[str], query: f.Query) -> tuple[list[cp.CachedStep], list[str]]:
        """What is kept, or was given up, on these clusters, and those that could not be asked."""
        replies, unreachable = await self._answers(clusters, query)
        steps = [step for reply in replies for step in reply.cached.steps]
        return sorted(steps, key=lambda step: (step.step, step.cluster)), unreachable

    async def logs(self, run: m.Run, request: cp.LogsRequest) -> AsyncGenerator[cp.LogsResponse]:
        """What the tasks have printed. With `follow`, until all clusters have no more to say."""
        asked = lines.clusters(run)
        if request.cluster:
            if request.cluster not in asked:
                raise NotFound(f"cluster {request.cluster} takes no part in run {run.name}: {', '.join(asked)} do")
            asked = [request.cluster]
        request.run = lines.name_of(run)
        query = f.Query(namespace=run.namespace, logs=request)
        async with aclosing(self._merged(asked, query)) as parts:
            async for cluster, part in parts:
                if isinstance(part, str):
                    yield cp.LogsResponse(cluster=cluster, stream="unreachable", data=part.encode())
                elif part.HasField("logs"):
                    if not part.logs.cluster:
                        part.logs.cluster = cluster
                    yield part.logs

    async def events(self, clusters: Sequence[str], request: cp.EventsRequest) -> AsyncGenerator[cp.EventsResponse]:
        """What has happened on these clusters."""
        query = f.Query(namespace=request.namespace or "default", events=request)
        async with aclosing(self._merged(clusters, query)) as parts:
            async for cluster, part in parts:
                if isinstance(part, str):
                    event = m.Event(
                        type="io.bdw-fed.agent.unreachable",
                        source="/hub",
                        subject=f"clusters/{cluster}",
                        namespace=request.namespace,
                        run=request.run,
                        cluster=cluster,
                    )
                    yield cp.EventsResponse(event=event)
                elif part.HasField("events"):
                    yield part.events

    async def _answers(self, clusters: Sequence[str], query: f.Query) -> tuple[list[f.QueryReply], list[str]]:
        """All replies, and the clusters that could not be asked or have not answered to the end in time."""
        replies: list[f.QueryReply] = []
        unreachable: set[str] = set()
        answered: set[str] = set()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), aclosing(self._merged(clusters, query)) as parts:
                async for cluster, part in parts:
                    if isinstance(part, str):
                        unreachable.add(cluster)
                        continue
                    replies.append(part)
                    if part.end:
                        answered.add(cluster)
        except TimeoutError:
            unreachable |= {*clusters} - answered
        return replies, sorted(unreachable)

    async def _merged(self, clusters: Sequence[str], query: f.Query) -> AsyncGenerator[Part]:
        """All replies of all clusters as they come. Leaving early stops the asking."""
        parts: asyncio.Queue[Part | None] = asyncio.Queue(64)

        async def ask(cluster: str) -> None:
            try:
                async with aclosing(self._agents.ask(cluster, query)) as replies:
                    async for reply in replies:
                        await parts.put((cluster, reply.error if reply.error else reply))
            except AgentUnreachable as error:
                await parts.put((cluster, str(error)))
            await parts.put(None)

        tasks = [asyncio.create_task(ask(cluster)) for cluster in clusters]
        try:
            left = len(tasks)
            while left:
                part = await parts.get()
                if part is None:
                    left -= 1
                else:
                    yield part
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
