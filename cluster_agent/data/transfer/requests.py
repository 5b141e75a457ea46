"""What a data server is asked, and the form of its answers: HTTP/1.1, as much of it as transfers need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from cluster_agent.data.base import UnitKey
from cluster_agent.data.transfer.channel import Channel, head
from wire.digests import ID_BYTES

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class AnswerError(Exception):
    """What is answered in place of what was asked for."""

    def __init__(self, status: int, text: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True)
class Request:
    """A request whose body, if it has one, is still to be received from `channel`."""

    channel: Channel
    method: str
    path: tuple[str, ...]
    headers: dict[str, str]

    @property
    def length(self) -> int:
        """Bytes of the body. AnswerError."""
        told = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not told.isdecimal():
            raise AnswerError(411, "expected a Content-Length")
        return int(told)

    @property
    def authorization(self) -> str:
        """The token or permit that was shown; empty if there was none."""
        return self.headers.get("authorization", "")

    @property
    def doubting(self) -> bool:
        """Who asks has got wrong bytes before."""
        return "no-cache" in self.headers.get("cache-control", "")

    def range(self, size: int) -> tuple[int, int, int]:
        """(start, end exclusive, HTTP status) that is asked for; one range, others are ignored as allowed."""
        header = self.headers.get("range")
        told = _RANGE.fullmatch(header.replace(" ", "")) if header else None
        if told is None or told[0] == "bytes=-":
            return 0, size, 200
        if not told[1]:
            length = min(int(told[2]), size)
            return (size - length, size, 206) if length else (0, 0, 416)
        start = int(told[1])
        end = min(int(told[2]) + 1, size) if told[2] else size
        return (start, end, 206) if start < end else (0, 0, 416)

    def part(self) -> tuple[int, int]:
        """Where in the whole the body begins, and the bytes of the whole. AnswerError."""
        told = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        if told is None:
            raise AnswerError(400, "Content-Range: expected bytes START-END/TOTAL")
        return int(told[1] or 0), int(told[3])

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"", *, length: int = -1) -> None:
        """Send an answer, or its head where `length` bytes are to follow. OSError."""
        send(self.channel, status, headers, body, length=length)


def parsed(channel: Channel, first: str, headers: dict[str, str]) -> Request:
    """The request that begins with this line. AnswerError."""
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise AnswerError(400, "expected HTTP/1.1")
    path = tuple(unquote(part) for part in target.partition("?")[0].split("/")[1:])
    return Request(channel, method, path, headers)


def send(
    channel: Channel, status: int, headers: dict[str, str], body: bytes = b"", *, length: int = -1, method: str = ""
) -> None:
    """Send an answer; to HEAD its head only. OSError."""
    phrase = HTTPStatus(status).phrase
    length = len(body) if length < 0 else length
    started = head(f"HTTP/1.1 {status} {phrase}", {"Content-Length": str(length), **headers})
    channel.send(started if method == "HEAD" else started + body)


def unit_key(namespace: str, run: str, unit: str) -> UnitKey:
    """The unit that a path names. AnswerError."""
    try:
        name = bytes.fromhex(unit)
    except ValueError:
        name = b""
    if len(name) != ID_BYTES:
        raise AnswerError(404, "no unit has such an id")
    return UnitKey(namespace, run, name)
