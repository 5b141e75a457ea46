"""What a hub's audit log says, read from its end: the newest lines that are asked for, until there are enough.

    FILE, FILE.1, FILE.2 … ─▶ blocks from the end ─▶ lines ─▶ those that are asked for

The log may grow, and be set aside, while it is read. A file that was read under one name is not read again under the
next; what is written from now on is not waited for. Files are read in threads, a block at a time, so that whoever stops
asking stops the reading.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import structlog

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.access.audit import KEPT

USUAL_LINES = 100
MOST_LINES = 10_000
_MOST_BYTES = 8 << 20  # of an answer
_BLOCK_BYTES = 1 << 20
_CLOCK_SECONDS = 3600.0  # by which the hub's clock may have been set back between two lines
_MOST_WORDS = 1000
_SAID = frozenset(("at", "by", "from", "call", "namespace", "allowed", "reason_refused"))

_log = structlog.get_logger(__name__)


class AuditHistory:
    """The log in `path` and the files set aside beside it. `hub`: the name of the hub that writes it."""

    def __init__(self, path: Path, hub: str, *, kept: int = KEPT) -> None:
        self._path = path
        self._hub = hub
        self._kept = kept

    async def read(self, request: cp.ReadAuditRequest) -> cp.ReadAuditResponse:
        """The newest lines that are asked for, the oldest of them first."""
        limit = most(request)
        found: list[cp.AuditLine] = []
        size = 0
        with closing(self._search(request)) as search:
            while len(found) <= limit and size <= _MOST_BYTES:
                block = await asyncio.to_thread(next, search, None)
                if block is None:
                    break
                found += block
                size += sum(line.ByteSize() for line in block)
        return newest(found[::-1], limit)

    def _search(self, request: cp.ReadAuditRequest) -> Generator[list[cp.AuditLine]]:
        """What is asked for, block by block, the newest first."""
        named = _as_written("by", request.user) if request.user else b""
        seen: set[tuple[int, int]] = set()
        for number in range(self._kept + 1):
            path = self._path.with_name(f"{self._path.name}.{number}") if number else self._path
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                facts = os.fstat(descriptor)
                if (facts.st_dev, facts.st_ino) in seen:
                    continue  # it was set aside since
                seen.add((facts.st_dev, facts.st_ino))
                for lines in _blocks(descriptor, facts.st_size):
                    found = [line for raw in lines if named in raw and (line := self._line(raw)) is not None]
                    yield [line for line in found if _is_wanted(line, request)]
                    oldest = self._line(lines[-1]) if lines and request.since else None
                    if oldest is not None and oldest.at < request.since - _CLOCK_SECONDS:
                        return
            finally:
                os.close(descriptor)

    def _line(self, raw: bytes) -> cp.AuditLine | None:
        try:
            values = json.loads(raw)
            return _line_of(values, self._hub)
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("a line of the audit log can't be read", path=str(self._path), error=str(error))
            return None


def most(request: cp.ReadAuditRequest) -> int:
    """How many lines an answer has."""
    return min(request.limit or USUAL_LINES, MOST_LINES)


def newest(lines: list[cp.AuditLine], limit: int) -> cp.ReadAuditResponse:
    """An answer with the last `limit` of these lines, and whether that leaves some out."""
    return cp.ReadAuditResponse(lines=lines[-limit:], more=len(lines) > limit)


def _is_wanted(line: cp.AuditLine, request: cp.ReadAuditRequest) -> bool:
    return (
        line.at >= request.since
        and request.user in ("", line.by)
        and request.namespace in ("", line.namespace)
        and (line.refused or not request.refused)
    )


def _line_of(values: Mapping[str, object], hub: str) -> cp.AuditLine:
    return cp.AuditLine(
        hub=hub,
        at=datetime.datetime.fromisoformat(str(values["at"])).timestamp(),
        by=_words(values["by"]),
        address=_words(values["from"]),
        call=_words(values["call"]),
        namespace=_words(values["namespace"]),
        refused=not values["allowed"],
        reason_refused=_words(values.get("reason_refused", "")),
        about={name: _words(value) for name, value in values.items() if name not in _SAID},
    )


def _words(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}…"


def _as_written(name: str, value: str) -> bytes:
    """As it stands in a line that has it."""
    return json.dumps({name: value}, ensure_ascii=False, separators=(",", ":")).encode()[1:-1]


def _blocks(descriptor: int, size: int) -> Iterator[list[bytes]]:
    """The lines of a file, some at a time, the newest first. What follows the last line's end is not written yet."""
    end, rest, ended = size, b"", False
    while end:
        start = max(0, end - _BLOCK_BYTES)
        lines = (os.pread(descriptor, end - start, start) + rest).split(b"\n")
        rest = lines.pop(0) if start else b""
        if lines and not ended:
            lines.pop()
            ended = True
        yield lines[::-1]
        end = start
