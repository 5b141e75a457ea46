"""What one hub still has to tell another: the newest of each cluster and each fragment, and frames in their order.

What was not told yet gives way to what is newer, so a slow hub costs no more than the agents that there are. Frames of
peers are dropped when too many wait: the peers' own session makes up for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import hub_pb2 as h
from bdw_fed.v1 import model_pb2 as m

_FRAMES_WAITING = 512


class News:
    """One stream's way out. One reader at a time, which ends when it is closed."""

    def __init__(self, hub_id: bytes) -> None:
        self._hub_id = hub_id
        self._statuses: dict[str, cp.ClusterStatus] = {}
        self._progress: dict[tuple[str, str, str], m.FragmentStatus] = {}
        self._frames: deque[f.PeerRelay] = deque(maxlen=_FRAMES_WAITING)
        self._something = asyncio.Event()

    def status(self, status: cp.ClusterStatus) -> None:
        """How a cluster is."""
        self._statuses[status.name] = status
        self._something.set()

    def progress(self, status: m.FragmentStatus) -> None:
        """How far a fragment is."""
        self._progress[status.namespace, status.run, status.cluster] = status
        self._something.set()

    def relay(self, relay: f.PeerRelay) -> None:
        """A frame of a peer."""
        self._frames.append(relay)
        self._something.set()

    def clear(self) -> None:
        """Nobody is there to hear it."""
        self._statuses.clear()
        self._progress.clear()
        self._frames.clear()

    async def requests(self) -> AsyncIterator[h.TellRequest]:
        """All that is to be told, as it comes."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._frames:
                yield h.TellRequest(hub=self._hub_id, relay=self._frames.popleft())
            while self._statuses:
                yield h.TellRequest(hub=self._hub_id, status=self._statuses.pop(next(iter(self._statuses))))
            while self._progress:
                yield h.TellRequest(hub=self._hub_id, progress=self._progress.pop(next(iter(self._progress))))
