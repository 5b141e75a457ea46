"""The scrubber of a node: does what its core says with the store's files and the segments of its journal.

    core ── List ──▶ store's contents, journal's segments
         ── Read ──▶ a piece, in a thread ─▶ at the end the digest; where it is wrong the store looks itself, and drops
         ── Keep ──▶ <store>/scrub

Files of datasets are their owner's and not read; what is in object storage is checked there, and when it comes back.
What was written or proven just now needs no look. In the journal, whatever is needed and has its bytes in memory is
written again, so that no damage in the middle of the file takes what is behind it with it at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from cluster_agent.data.base import Content
from cluster_agent.data.scrub import messages
from cluster_agent.data.scrub.core import ScrubCore
from cluster_agent.data.scrub.messages import File, FileEnded, Keep, Listed, PieceRead, Progress, Read, Tick, WakeAt
from cluster_agent.data.scrub.reading import Reading, piece
from cluster_agent.data.segment import Segment, is_sound
from cluster_agent.data.store import DiskStore
from wire.digests import ContentHasher

PERIOD_SECONDS: Final = 7 * 86400.0
MOST_BYTES: Final = 8e6  # a second
_JOURNAL, _CONTENT = b"\0", b"\1"  # segments come first
_log = structlog.get_logger(__name__)


class Scrubber:
    """Reads all of a store once in `period` seconds (0: never), at most `most` bytes a second.

    `run` it, and `close` it when that is over.
    """

    def __init__(
        self,
        store: DiskStore,
        period: float = PERIOD_SECONDS,
        most: float = MOST_BYTES,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called now and then when it is further."""
        self._store = store
        self._changed = changed
        self._file = store.root / "scrub"
        self._core = ScrubCore(period, most, _progress_in(self._file), time.monotonic()) if period else None
        self._reading = Reading()
        self._listed: list[Content | tuple[Segment, int]] = []
        self._hasher = ContentHasher()
        self._frames = bytearray()
        self._began = 0.0

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._core.progress(time.monotonic()) if self._core is not None else Progress()

    async def run(self) -> None:
        """Read on and on, until cancelled."""
        if self._core is None:
            await asyncio.Event().wait()
            return
        event: messages.Event = Tick()
        while True:
            actions = self._core.handle(event, time.monotonic())
            event = Tick()
            for action in actions:
                match action:
                    case messages.List():
                        event = Listed(self._list())
                    case Read():
                        event = await self._read(action)
                    case Keep():
                        self._keep(action.progress)
                        self._changed()
                    case WakeAt():
                        await asyncio.sleep(action.at - time.monotonic())

    def close(self) -> None:
        """Return when nothing is being read; how far it is survives."""
        self._reading.close()
        if self._core is not None:
            self._keep(self.progress)

    def _list(self) -> list[File]:
        found: list[tuple[File, Content | tuple[Segment, int]]] = []
        for segment in self._store.journal.segments:
            found.append((File(_JOURNAL + segment.number.to_bytes(8, "big"), segment.size), (segment, segment.size)))
        for content in self._store.files():
            found.append((File(_CONTENT + content.digest, content.size), content))
        found.sort(key=lambda each: each[0])
        self._listed = [stored for _, stored in found]
        return [file for file, _ in found]

    async def _read(self, action: Read) -> PieceRead | FileEnded:
        wanted = self._listed[action.file]
        if isinstance(wanted, Content):
            return await self._read_content(wanted, action)
        return await self._read_segment(*wanted, action)

    async def _read_content(self, content: Content, action: Read) -> PieceRead | FileEnded:
        if not action.offset:
            self._hasher, self._began = ContentHasher(), time.monotonic()
            if not self._store.proving.due(content):
                return FileEnded()
        path, hasher = content.path, self._hasher
        if path is None or not content.names:  # it went away, or was freed
            return FileEnded()

        def read() -> int:
            data = piece(path, action.offset, action.size)
            hasher.update(data)
            return len(data)

        try:
            count = await self._reading.call(read)
        except OSError:
            count = 0
        if count and action.offset + count < content.size:
            return PieceRead(count)
        if hasher.digest() == content.digest:
            content.proven = self._began
            return FileEnded(count)
        try:
            return FileEnded(max(1, count), damaged=await self._store.proving.prove(content) is False)
        except OSError as error:  # no descriptors, say; the next pass reads it
            _log.warning("a content can't be read", path=str(path), error=str(error))
            return FileEnded(max(1, count))

    async def _read_segment(self, segment: Segment, size: int, action: Read) -> PieceRead | FileEnded:
        if not action.offset:
            self._frames.clear()

        def read() -> bytes:
            return piece(segment.path, action.offset, min(action.size, size - action.offset))

        data = b""
        try:
            data = await self._reading.call(read)
        except FileNotFoundError:  # nobody needed anything of it
            return FileEnded()
        except OSError as error:
            _log.warning("the journal can't be read", path=str(segment.path), error=str(error))
        self._frames += data
        if data and len(self._frames) < size:
            return PieceRead(len(data))
        if len(self._frames) == size and await self._reading.call(lambda: is_sound(self._frames)):
            return FileEnded(len(data))
        return FileEnded(max(1, len(data)), damaged=self._renew(segment))

    def _renew(self, segment: Segment) -> bool:
        """A file of the journal is damaged: drop what can't be had any more, and have the rest written again.

        False: nobody needs anything of it by now.
        """
        store, journal = self._store, self._store.journal
        if segment not in journal.segments:
            return False
        for content in journal.unreadable(segment):
            store.damaged(content, f"{segment.path} is damaged")
        try:
            journal.renew(segment)
            store.save()
            journal.segments.drop()
        except OSError as error:  # it is tried again in the next pass
            _log.warning(
                "a damaged file of the journal can't be written again", path=str(segment.path), error=str(error)
            )
        return True

    def _keep(self, progress: Progress) -> None:
        try:
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(msgspec.msgpack.encode(progress))
            fresh.replace(self._file)
        except OSError as error:
            _log.warning("how far the scrubber is can't be kept", error=str(error))


def _progress_in(file: Path) -> Progress:
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=Progress)
    except (OSError, msgspec.DecodeError):
        return Progress()
