"""The spawner's end of its conversation with the daemon: requests with descriptors come in, what happened goes out."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("<I")
_READ_BYTES = 1 << 16
_DESCRIPTORS = 3  # that a request may have

Request = tuple[dict[str, Any], list[int]]


class Conversation:
    """`say` keeps what is said until `flush`: what one turn brings goes at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = bytearray()
        self._passed: deque[int] = deque()
        self._said = bytearray()

    def fileno(self) -> int:
        """What to wait on for requests."""
        return self._connection.fileno()

    def receive(self) -> bool:
        """Take in what is here; False at the end of the conversation."""
        data, passed, _, _ = socket.recv_fds(self._connection, _READ_BYTES, _DESCRIPTORS)
        for descriptor in passed:
            os.set_inheritable(descriptor, False)
        self._heard += data
        self._passed.extend(passed)  # they come with the first byte of their request, and in order
        return bool(data)

    def requests(self) -> Iterator[Request]:
        """Those that are here as a whole, each with its descriptors."""
        at = 0
        while len(self._heard) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(self._heard, at)[0]
            if len(self._heard) < end:
                break
            request = json.loads(self._heard[at + _LENGTH.size : end])
            at = end
            yield request, [self._passed.popleft() for _ in range(request.get("descriptors", 0))]
        del self._heard[:at]

    def say(self, message: dict[str, Any]) -> None:
        """Something that goes to the daemon at the end of this turn."""
        body = json.dumps(message).encode()
        self._said += _LENGTH.pack(len(body)) + body

    def flush(self) -> None:
        """Send what was said."""
        if self._said:
            said, self._said = self._said, bytearray()
            self._connection.sendall(said)
