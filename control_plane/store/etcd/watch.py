"""Watching a prefix: batches of events that survive lost connections, restarted servers and compactions.

One gRPC stream carries one watch, read only when the consumer asks for the next batch, so that a slow consumer
holds the server back instead of filling our memory. When the stream breaks, another one goes on after the last
batch that was handed out; no revision is skipped and none comes twice. Where the history has been compacted away
meanwhile, or the store was restored to an older state, the consumer is given everything as it is now instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from control_plane.store.etcd.client import Client, Method, Stream, backoff
from control_plane.store.etcd.core import Changes, CheckRevision, Progress, Relist, Reopen, WatchCore
from control_plane.store.etcd.errors import EtcdError, Refused, Unavailable
from control_plane.store.etcd.kv import FIRST_KEY, Item, Kv, prefix_end
from control_plane.store.etcd.rpc import etcd_pb2 as rpc

_WATCH = Method("/etcdserverpb.Watch/Watch", rpc.WatchResponse)


@dataclass(frozen=True, slots=True)
class Reset:
    """The events since the last batch are lost: this is everything under the prefix as it was at `revision`."""

    revision: int
    items: tuple[Item, ...]


Batch = Changes | Progress | Reset


class Watch(AsyncIterator[Batch]):
    """What happens to the keys under `prefix` (or, with `exact`, to that one key) from revision `start` on.

    An async iterator, and an async context manager that ends the watch. Breaking off a wait for the next batch (a
    timeout, a cancellation) loses nothing: the next wait goes on where the last batch ended. Raises Refused when
    etcd will not have the watch at all, for instance for want of permission; outages it waits out.
    """

    def __init__(self, client: Client, prefix: bytes, *, start: int, exact: bool = False) -> None:
        if start < 1:
            raise ValueError(f"a watch starts at a revision from 1 on, not at {start}: list first, then watch")
        self._client = client
        self._prefix = prefix
        self._range_end = b"" if exact else prefix_end(prefix)
        self._exact = exact
        self._core = WatchCore(start)
        self._stream: Stream[rpc.WatchResponse] | None = None
        self._delays: Iterator[float] = backoff()

    @property
    def revision(self) -> int:
        """Everything up to this revision has been handed out."""
        return self._core.next - 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the watch at the server. Iterating again would begin it anew after the last batch."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def __anext__(self) -> Batch:
        try:
            while True:
                try:
                    if (batch := await self._advance()) is not None:
                        self._delays = backoff()
                        return batch
                except Refused:
                    raise
                except EtcdError:
                    self.close()
                    await asyncio.sleep(next(self._delays))
        except BaseException:
            self.close()
            raise

    async def _advance(self) -> Batch | None:
        """Read one response, opening a stream where there is none."""
        if self._stream is None:
            self._stream = self._client.stream(_WATCH)
            create = rpc.WatchCreateRequest(
                key=self._prefix or FIRST_KEY,
                range_end=self._range_end,
                start_revision=self._core.opened(),
                progress_notify=True,
                fragment=True,
            )
            await self._stream.send(rpc.WatchRequest(create_request=create))
        match self._core.received(await self._stream.receive()):
            case Changes() | Progress() as batch:
                return batch
            case Relist():
                return await self._relist()
            case CheckRevision(delivered):
                # A read that all members agree on tells a member that lags from a store that was set back.
                if await Kv(self._client).revision() < delivered:
                    return await self._relist()
            case Reopen(reason):
                raise Unavailable(f"etcd ended the watch of {self._prefix!r}: {reason}")
            case None:
                pass
        return None

    async def _relist(self) -> Reset:
        self.close()
        snapshot = await Kv(self._client).list(self._prefix, exact=self._exact)
        self._core.relisted(snapshot.revision)
        return Reset(snapshot.revision, snapshot.items)
