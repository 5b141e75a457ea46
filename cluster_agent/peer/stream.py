"""One stream's way out: frames wait here for the connection. The session's window bounds their number.

Revocations go before what waits; of those only the newest list.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from bdw_fed.v1.membership_pb2 import SignedRevocations
from bdw_fed.v1.peer_pb2 import PeerFrame


class FrameQueue:
    """Frames in order; one reader, which ends with `close`."""

    def __init__(self) -> None:
        self._frames: deque[PeerFrame] = deque()
        self._revocations: SignedRevocations | None = None
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, frame: PeerFrame) -> None:
        """Send this after what is waiting."""
        self._frames.append(frame)
        self._wake.set()

    def revoke(self, revocations: SignedRevocations) -> None:
        """Pass this list on; an empty one is none."""
        if revocations.list:
            self._revocations = revocations
            self._wake.set()

    def close(self) -> None:
        """The stream ends; what waits is not sent, for the session sends it again elsewhere."""
        self._closed = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[PeerFrame | SignedRevocations]:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._revocations is not None and not self._closed:
                revocations, self._revocations = self._revocations, None
                yield revocations
            while self._frames and not self._closed:
                yield self._frames.popleft()
            if self._closed:
                return
