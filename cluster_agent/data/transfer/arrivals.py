"""Units that are on their way to this node: pulled by us, or pushed by another node, once for each digest.

Whoever wants a unit says so by `fetch` (with places to pull it from) or `expect` (somebody will push it). Wants for the
same digest share one `Arrival`, so its bytes come once; its file is complete, checked and in the store before any of
them is told `Arrived`. One writer at a time: a push waits outside while a pull is under way, and the other way round.
Small units of one server are asked for together (see `batches`), and go into the store's journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import DataError, GoneError, TransferError
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer import many
from cluster_agent.data.transfer.arrival import Arrival, Arrived, PushRefusedError
from cluster_agent.data.transfer.batches import Batches
from cluster_agent.data.transfer.client import Source, TransferClient
from cluster_agent.data.transfer.kept import EARLIER_SECONDS, Kept
from cluster_agent.data.transfer.partial import PartialFile, remove
from wire.digests import bytes_digest

PULLS_AT_ONCE = 8


class Arrivals:
    """All that is on its way into `store`; tells `arrived` once for each want. `close` it at the end."""

    def __init__(self, store: DiskStore, client: TransferClient, arrived: Callable[[Arrived], None]) -> None:
        self._store = store
        self._client = client
        self._arrived = arrived
        self._by_digest: dict[bytes, Arrival] = {}
        self._by_key: dict[UnitKey, Arrival] = {}
        self._slots = asyncio.Semaphore(PULLS_AT_ONCE)
        self._batches = Batches(self._ask_for)
        self._closing: set[asyncio.Task[None]] = set()
        self._kept = Kept(store.partial, self._by_digest.__contains__)
        self._timer = asyncio.get_running_loop().call_later(EARLIER_SECONDS, self._kept.drop_earlier)

    def wanted(self) -> list[UnitKey]:
        """All units on their way or expected."""
        return list(self._by_key)

    def fetch(self, key: UnitKey, digest: bytes, size: int, sources: list[Source]) -> None:
        """Pull a unit from one of `sources`, tried in turn."""
        arrival = self._want(key, digest, size, "")
        if arrival is None:
            return
        arrival.sources += [source for source in sources if source not in arrival.sources]
        if arrival.pull is not None or arrival.queued:
            return
        if arrival.sources and size <= self._store.small:
            self._batches.add(arrival)
        else:
            arrival.pull = asyncio.create_task(self._pull(arrival))

    def expect(self, key: UnitKey, digest: bytes, size: int, cluster: str) -> None:
        """Let a node of `cluster` push a unit."""
        self._want(key, digest, size, cluster)

    def forget(self, key: UnitKey) -> None:
        """The unit is not wanted any more; nothing will be told of it."""
        arrival = self._by_key.pop(key, None)
        if arrival is not None:
            del arrival.wants[key]
            if not arrival.wants:
                self._by_digest.pop(arrival.digest, None)
                self._own(asyncio.create_task(self._abandon(arrival)))
        self._kept.forget(key)

    def forget_run(self, namespace: str, run: str) -> None:
        """Nothing of the run is wanted any more."""
        for key in [key for key in self._by_key if (key.namespace, key.run) == (namespace, run)]:
            self.forget(key)
        self._kept.forget_run(namespace, run)

    async def close(self) -> None:
        """Stop all transfers; what has come is kept for the next start."""
        self._timer.cancel()
        await self._batches.close()
        for arrival in list(self._by_digest.values()):
            if arrival.pull is not None:
                arrival.pull.cancel()
                await asyncio.gather(arrival.pull, return_exceptions=True)
            if arrival.partial is not None:
                arrival.partial.close()
                arrival.partial = None
        self._by_digest.clear()
        self._by_key.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------- the push side

    def offset(self, key: UnitKey) -> int | None:
        """How many bytes of an expected unit are here; None if it is not expected."""
        arrival = self._by_key.get(key)
        if arrival is None or not arrival.wants[key]:
            return None
        return self._partial(arrival).contiguous

    async def receive(
        self, key: UnitKey, cluster: str, start: int, total: int, data: AsyncIterator[bytes | memoryview]
    ) -> bool:
        """Take what a node of `cluster` pushes; True once the unit is whole and in the store. PushRefusedError."""
        arrival = self._by_key.get(key)
        if arrival is None or not arrival.wants[key]:
            raise PushRefusedError(404, "the unit is not expected here")
        if arrival.wants[key] != cluster:
            raise PushRefusedError(403, f"the unit is expected from {arrival.wants[key]}, not from {cluster}")
        if total != arrival.size:
            raise PushRefusedError(422, f"the unit has {arrival.size} bytes, not {total}")
        if arrival.push is not None:
            arrival.push.cancel()  # the sender tries again, so the connection before this one is dead
        elif arrival.writing.locked():
            raise PushRefusedError(409, "the unit is arriving on another way just now")
        arrival.push = asyncio.current_task()
        try:
            return await self._take(arrival, start, data)
        finally:
            if arrival.push is asyncio.current_task():
                arrival.push = None

    # ---------------------------------------------------------------------------------------------------- inside

    async def _take(self, arrival: Arrival, start: int, data: AsyncIterator[bytes | memoryview]) -> bool:
        async with arrival.writing:
            partial = self._partial(arrival)
            if start != partial.contiguous:
                raise PushRefusedError(409, "that is not where the unit goes on", partial.contiguous)
            arrival.began = arrival.began or time.monotonic()
            async for piece in data:
                if self._by_digest.get(arrival.digest) is not arrival:
                    raise PushRefusedError(404, "the unit is not wanted any more")
                try:
                    await asyncio.to_thread(partial.append, piece)
                except ValueError as error:
                    raise PushRefusedError(422, str(error)) from None
                arrival.crossed += len(piece)
            if not partial.complete():
                return False
            try:
                await self._finish(arrival)
            except TransferError as error:
                raise PushRefusedError(422, str(error)) from None
            except (DataError, OSError) as error:
                self._fail(arrival, str(error))
                raise PushRefusedError(507, str(error)) from None
            return True

    def _want(self, key: UnitKey, digest: bytes, size: int, cluster: str) -> Arrival | None:
        """The arrival that will satisfy the want; None if that is settled and told already."""
        known = self._by_key.get(key)
        if known is not None and known.digest != digest:
            self.forget(key)
        if self._store.name(key, digest):
            self.forget(key)
            self._own(asyncio.create_task(self._tell_when_durable([Arrived(key)])))
            return None
        arrival = self._by_digest.get(digest)
        if arrival is None:
            try:
                self._store.space.check(size)
            except DataError as error:
                self._arrived(Arrived(key, error=str(error)))
                return None
            arrival = self._by_digest[digest] = Arrival(digest, size)
        arrival.wants[key] = cluster
        self._by_key[key] = arrival
        return arrival

    def _partial(self, arrival: Arrival) -> PartialFile:
        if arrival.partial is None:
            arrival.partial = PartialFile(self._store.partial, arrival.digest, arrival.size)
        return arrival.partial

    async def _pull(self, arrival: Arrival) -> None:
        try:
            async with self._slots, arrival.writing:
                arrival.began = time.monotonic()
                for last in (False, True):
                    partial = self._partial(arrival)
                    arrival.crossed += await self._client.pull(partial, arrival.digest, arrival.sources)
                    try:
                        await self._finish(arrival)
                        return
                    except TransferError as error:  # perhaps of bytes from before a crash: once more, from nothing
                        if last:
                            raise GoneError(str(error)) from None
        except GoneError as error:
            self._fail(arrival, str(error), gone=True)
        except (DataError, OSError) as error:
            self._fail(arrival, str(error))
        finally:
            arrival.pull = None

    async def _ask_for(self, batch: list[Arrival]) -> None:
        """Ask for small units of one server together."""
        asked = [arrival for arrival in batch if self._by_digest.get(arrival.digest) is arrival]
        if not asked:
            return
        began, error = time.monotonic(), ""
        contents: many.Answer = [None] * len(asked)
        try:
            keys = [arrival.sources[0].key for arrival in asked]
            contents = await self._client.pull_small(keys, asked[0].sources[0])
        except TransferError as failure:
            error = str(failure)
        seconds = (time.monotonic() - began) / len(asked)
        told: list[Arrived] = []
        for arrival, content in zip(asked, contents, strict=True):
            arrival.queued = False
            if self._by_digest.get(arrival.digest) is not arrival or arrival.writing.locked():
                continue  # forgotten, or being pushed
            try:
                told += self._enter_small(arrival, content, seconds)
            except OSError as failure:
                self._fail(arrival, str(failure))
                continue
            if arrival.wants and self._by_digest.get(arrival.digest) is arrival:
                self._otherwise(arrival, error)
        await self._tell_when_durable(told)

    def _enter_small(self, arrival: Arrival, content: tuple[bytes, bytes] | None, seconds: float) -> list[Arrived]:
        """Put what came into the store, if it is the unit; what to tell of it."""
        if content is None or bytes_digest(content[1]) != arrival.digest:
            return []
        for key in arrival.wants:
            self._store.put(key, content[1], arrival.digest)
        first, *others = arrival.wants
        self._settle(arrival)
        return [Arrived(first, len(content[1]), seconds), *(Arrived(key) for key in others)]

    def _otherwise(self, arrival: Arrival, error: str) -> None:
        """It did not come with the others: it is asked for alone, which tries all servers and tells what is wrong."""
        if error and len(arrival.sources) == 1:
            self._fail(arrival, error)
        else:
            arrival.pull = asyncio.create_task(self._pull(arrival))

    async def _finish(self, arrival: Arrival) -> None:
        """Check a complete file and put it into the store; TransferError if its bytes are wrong."""
        partial = self._partial(arrival)
        if await asyncio.to_thread(partial.digest) != arrival.digest:
            partial.restart()
            raise TransferError("the bytes that came are not the unit's: their digest is another")
        if self._by_digest.get(arrival.digest) is not arrival:
            return  # forgotten meanwhile, and perhaps wanted anew
        partial.close()
        arrival.partial = None
        first, *others = arrival.wants
        await self._store.commit(partial.path, first, arrival.digest)
        remove(self._store.partial, arrival.digest)
        for key in others:
            self._store.name(key, arrival.digest)
        seconds = time.monotonic() - arrival.began
        told = [Arrived(first, arrival.crossed, seconds), *(Arrived(key) for key in others)]
        self._settle(arrival)
        await self._tell_when_durable(told)

    async def _tell_when_durable(self, told: list[Arrived]) -> None:
        try:
            await self._store.durable()
        except OSError as error:
            told = [Arrived(arrived.key, error=f"the disk refused: {error}") for arrived in told]
        for arrived in told:
            self._arrived(arrived)

    def _fail(self, arrival: Arrival, error: str, gone: bool = False) -> None:
        """Tell those who pulled; who expects a push goes on expecting it."""
        pulled = [key for key, cluster in arrival.wants.items() if not cluster]
        for key in pulled:
            del arrival.wants[key]
            self._by_key.pop(key, None)
            self._kept.broke_off(arrival.digest, key)
            self._arrived(Arrived(key, arrival.crossed, error=error, gone=gone))
        arrival.sources.clear()
        if not arrival.wants:
            self._settle(arrival)

    def _settle(self, arrival: Arrival) -> None:
        if self._by_digest.get(arrival.digest) is arrival:
            del self._by_digest[arrival.digest]
        for key in arrival.wants:
            self._by_key.pop(key, None)
        if arrival.partial is not None:
            arrival.partial.close()
            arrival.partial = None

    async def _abandon(self, arrival: Arrival) -> None:
        if arrival.pull is not None:
            arrival.pull.cancel()
            await asyncio.gather(arrival.pull, return_exceptions=True)
        async with arrival.writing:
            if arrival.partial is not None:
                arrival.partial.close()
                arrival.partial = None
            self._kept.drop(arrival.digest)

    def _own(self, task: asyncio.Task[None]) -> None:
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
