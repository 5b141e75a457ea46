"""The hub's questions about detail that only we have: each is answered by a task of its own, which a cancel ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import structlog

from bdw_fed.v1 import control_plane_pb2
from bdw_fed.v1.federation_pb2 import CachedSteps, Query, QueryReply, TaskList
from cluster_agent.coordinator.cache.asking import clear
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.ports import Core
from cluster_agent.events import EventBus
from cluster_agent.nodes.logs import LogReaders

_log = structlog.get_logger(__name__)


class Answers:
    """The questions of one connection. `reply` sends a part of an answer and waits for room."""

    def __init__(
        self,
        core: Core,
        intake: Intake,
        bus: EventBus,
        logs: LogReaders,
        reply: Callable[[QueryReply], Awaitable[None]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._core = core
        self._intake = intake
        self._bus = bus
        self._logs = logs
        self._reply = reply
        self._tasks = tasks
        self._open: dict[int, asyncio.Task[None]] = {}

    def ask(self, query: Query) -> None:
        """Answer this, beside the others."""
        task = self._tasks.create_task(self._answer(query), name=f"query {query.id}")
        self._open[query.id] = task
        task.add_done_callback(lambda _: self._open.pop(query.id, None))

    def cancel(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        task = self._open.get(number)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """The connection is gone: nobody waits for anything."""
        for task in list(self._open.values()):
            task.cancel()

    async def _answer(self, query: Query) -> None:
        error = ""
        try:
            async with aclosing(self._parts(query)) as parts:
                async for part in parts:
                    part.id = query.id
                    await self._reply(part)
        except Exception as failed:
            _log.exception("a question can't be answered", question=query.WhichOneof("kind"))
            error = f"the agent can't answer: {failed!r}"
        await self._reply(QueryReply(id=query.id, end=True, error=error))

    async def _parts(self, query: Query) -> AsyncGenerator[QueryReply]:
        match query.WhichOneof("kind"):
            case "logs":
                query.logs.namespace = query.logs.namespace or query.namespace
                async with aclosing(self._logs.read(query.logs)) as chunks:
                    async for chunk in chunks:
                        yield QueryReply(logs=chunk)
            case "events":
                async with aclosing(self._events(query)) as events:
                    async for event in events:
                        yield event
            case "describe":
                tasks = self._core.tasks(RunKey(query.namespace, query.describe.run))
                yield QueryReply(tasks=TaskList(tasks=tasks))
            case "list_cache":
                steps = self._core.cached(query.namespace, query.list_cache.step)
                yield QueryReply(cached=CachedSteps(steps=steps))
            case "clear_cache":
                yield QueryReply(cached=await clear(self._intake, query.namespace, query.clear_cache))
            case _:
                yield QueryReply(error="this agent does not know the question: it is older than the hub")

    async def _events(self, query: Query) -> AsyncGenerator[QueryReply]:
        subscription = self._bus.subscribe(query.namespace, query.events.run)
        try:
            for event in subscription.waiting():
                yield QueryReply(events=control_plane_pb2.EventsResponse(event=event))
            if query.events.follow:
                async for event in subscription:
                    yield QueryReply(events=control_plane_pb2.EventsResponse(event=event))
        finally:
            subscription.close()
