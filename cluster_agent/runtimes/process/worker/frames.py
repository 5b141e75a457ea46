"""Frames between daemon and worker, the words in the memory that they share, and answers as they are written there."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

# Words of the shared memory: the job begun last, the last that may begin, the size of the answers that were not sent
# (they are behind the words), how often any were.
AT, UNTIL, UNSENT, SENDINGS = 0, 1, 2, 3
WORDS_BYTES = 32
SHARED_BYTES = 1 << 20
GOING_ON, WAITING, LEAVING = 0, 1, 2  # what the worker does after a `done`
LEFT, MISSING = -1, -2  # in place of an output's size
WORKS_KNOWN = 256  # places for works; the daemon gives a place to another work when it has no free one
KEPT = struct.Struct("<cIII")  # of a frame in the file of what is kept: kind, row, bytes of the body, its CRC-32
ANSWER = b"A"
_ANSWER = struct.Struct("<QQIHB")  # number, microseconds, bytes of the failure, outputs, whether it was a run
_LENGTHS = struct.Struct("<II")
_RECEIVE_BYTES = 256 << 10
Message = Any


class Frames:
    """One end of the conversation, blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._start = 0  # of what has not been received

    def send(self, message: Message, pieces: Sequence[bytes] = ()) -> None:
        """Send a frame."""
        self._connection.sendall(frame(message, pieces))

    def receive(self) -> tuple[Message, bytes] | None:
        """The next frame; None when the other end is gone."""
        while (found := split_frame(self._buffer, self._start)) is None:
            piece = self._connection.recv(_RECEIVE_BYTES)
            if not piece:
                return None
            self._add(piece)
        message, raw, self._start = found
        return message, raw

    def fetch(self) -> bool:
        """Take in what is there; whether a frame can be received without waiting."""
        if _end_of_frame(self._buffer, self._start) is None:
            try:
                self._add(self._connection.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return False
        return _end_of_frame(self._buffer, self._start) is not None

    def _add(self, piece: bytes) -> None:
        self._buffer = self._buffer[self._start :] + piece
        self._start = 0


def frame(message: Message, pieces: Sequence[bytes] = ()) -> bytes:
    """A message and the bytes that follow it, as they travel."""
    body = json.dumps(message, separators=(",", ":")).encode()
    raw = b"".join(pieces)
    return b"".join((_LENGTHS.pack(len(body), len(raw)), body, raw))


def split_frame(data: bytes, start: int) -> tuple[Message, bytes, int] | None:
    """The message at `start` with its bytes, and where the next frame begins; None if it is not all there yet."""
    end = _end_of_frame(data, start)
    if end is None:
        return None
    first = start + _LENGTHS.size
    middle = first + _LENGTHS.unpack_from(data, start)[0]
    return json.loads(data[first:middle]), data[middle:end], end


def _end_of_frame(data: bytes, start: int) -> int | None:
    first = start + _LENGTHS.size
    if len(data) < first:
        return None
    text, raw = _LENGTHS.unpack_from(data, start)
    end: int = first + text + raw
    return end if end <= len(data) else None


def answer(
    number: int, seconds: float, outputs: Sequence[int], run: bool, failure: Message, tail: Sequence[bytes]
) -> bytes:
    """What `answers` takes apart; `tail` are the bytes of the outputs that have a size."""
    text = json.dumps(failure).encode() if failure else b""
    head = _ANSWER.pack(number, int(seconds * 1e6), len(text), len(outputs), run)
    return b"".join((head, struct.pack(f"<{len(outputs)}i", *outputs), text, *tail))


def answers(raw: bytes) -> Iterator[tuple[int, float, list[Any], Message]]:
    """Of each answer the number, seconds, outputs (bytes, LEFT or MISSING; of a run its peak memory) and failure."""
    start = 0
    while start < len(raw):
        number, microseconds, text, count, run = _ANSWER.unpack_from(raw, start)
        start += _ANSWER.size
        sizes = struct.unpack_from(f"<{count}i", raw, start)
        start += 4 * count
        failure = json.loads(raw[start : start + text]) if text else None
        start += text
        outputs: list[Any] = []
        for size in sizes:
            if run:
                outputs.append(size << 10)
            elif size >= 0:
                outputs.append(raw[start : start + size])
                start += size
            else:
                outputs.append(size)
        yield number, microseconds / 1e6, outputs, failure
