"""Does what the core of a watch says, and feeds back what happened.

    watching = asyncio.create_task(Watcher(client, PODS, "team-a", labels="app=x").run(deliver))

`deliver` is called with each piece of news, in order, on the event loop; it must not block. `run` ends only by being
cancelled, or with what `deliver` raised. A server that can't be had is news (`Troubled`), not an end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from secrets import SystemRandom
from typing import Any, Generic, NoReturn

import msgspec

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import ApiError, Gone
from cluster_agent.runtimes.kubernetes.api.objects.kinds import Kind, ObjectT
from cluster_agent.runtimes.kubernetes.api.objects.meta import Object, Status, WatchEvent
from cluster_agent.runtimes.kubernetes.api.watch import core

OPENING = 30.0
SECONDS = 240  # a watch is asked to last so long, up to twice; spread, so that those of many agents don't end at once
_STATUS = msgspec.json.Decoder(Status)
_MARK = msgspec.json.Decoder(Object)


class Watcher(Generic[ObjectT]):
    """Follows the objects of one kind; `view` has them as they were told last, by namespace and name."""

    def __init__(
        self,
        client: Client,
        kind: Kind[ObjectT],
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        idle: float = core.IDLE,
        page: int = core.PAGE,
    ) -> None:
        """`idle` is how long a watch may say nothing; `page` how many objects a list asks for at once."""
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._random = SystemRandom()
        self._core: core.WatchCore[ObjectT] = core.WatchCore(_idle=idle, _page=page)

    @property
    def view(self) -> Mapping[tuple[str, str], ObjectT]:
        """What is there, as far as it was told."""
        return self._core.known

    async def run(self, deliver: Callable[[core.News[ObjectT]], None]) -> NoReturn:
        """List and watch until cancelled."""
        order = self._tell(core.Begin(), deliver)
        while True:
            match order:
                case core.List():
                    order = self._tell(await self._list(order), deliver)
                case core.Watch():
                    order = await self._watch(order, deliver)
                case core.Rest():
                    await asyncio.sleep(order.delay.drawn(self._random.random()))
                    order = self._tell(core.Rested(), deliver)
                case None:
                    raise AssertionError("the core has left nothing to do, and no watch is open")

    def _tell(self, event: core.Event[ObjectT], deliver: Callable[[core.News[ObjectT]], None]) -> core.Order | None:
        """Hand the event to the core, its news to the consumer; returns what is to be done next."""
        order: core.Order | None = None
        for action in self._core.handle(event, time.monotonic()):
            if isinstance(action, core.List | core.Watch | core.Rest):
                order = action
            else:
                deliver(action)
        return order

    async def _list(self, order: core.List) -> core.Event[ObjectT]:
        try:
            page = await self._client.page(
                self._kind,
                self._namespace,
                labels=self._labels,
                fields=self._fields,
                limit=order.limit,
                token=order.token,
            )
        except ApiError as error:
            return _failure(error)
        return core.Page(tuple(page.items or ()), page.metadata.resource_version, page.metadata.continue_)

    async def _watch(self, order: core.Watch, deliver: Callable[[core.News[ObjectT]], None]) -> core.Order | None:
        """Watch until the core wants something else."""
        async with AsyncExitStack() as stack:
            watch = self._client.watch(
                self._kind,
                self._namespace,
                order.version,
                labels=self._labels,
                fields=self._fields,
                seconds=round(SECONDS * (1 + self._random.random())),
                timeout=OPENING,
            )
            try:
                events = await stack.enter_async_context(watch)
            except ApiError as error:
                return self._tell(_failure(error), deliver)
            while True:
                if next_order := self._tell(await self._event(events), deliver):
                    return next_order

    async def _event(self, events: AsyncIterator[WatchEvent]) -> core.Event[ObjectT]:
        """The next thing that the watch says, or that it says nothing."""
        try:
            async with asyncio.timeout(max(0.0, self._core.silent_at - time.monotonic())):
                said = await anext(events, None)
        except TimeoutError:
            return core.Silent()
        except ApiError as error:
            return _failure(error)
        return core.Ended() if said is None else self._understood(said)

    def _understood(self, said: WatchEvent) -> core.Event[ObjectT]:
        try:
            match said.type:
                case "ADDED" | "MODIFIED" | "DELETED":
                    return core.Happened(self._kind.decoder.decode(said.object), said.type == "DELETED")
                case "BOOKMARK":
                    return core.Bookmark(_MARK.decode(said.object).metadata.resource_version)
                case "ERROR":
                    return _said_error(_STATUS.decode(said.object))
                case _:
                    return core.Failed(f"the server says {said.type!r} in a watch of {self._kind.plural}")
        except msgspec.DecodeError as error:
            return core.Failed(f"the server says in a watch of {self._kind.plural} what can't be understood: {error}")


def _failure(error: ApiError) -> core.Event[Any]:
    return core.Expired() if isinstance(error, Gone) else core.Failed(str(error), error.retry_after)


def _said_error(status: Status) -> core.Event[Any]:
    if status.code == 410 or status.reason in ("Expired", "Gone"):
        return core.Expired()
    wait = status.details.retry_after_seconds if status.details is not None else 0
    return core.Failed(status.message or status.reason, float(wait) or None)
