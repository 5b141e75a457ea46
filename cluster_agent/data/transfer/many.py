"""Many small units in one request: who asks names them, who answers sends digest and content of those that it has.

    request: [[namespace, run, unit], …]    answer: [[digest, content] or nil, …] in the same order, both msgpack

Nil stands for what is not here, is no small unit, or does not fit any more; such are asked for one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cluster_agent.data.base import Store, UnitKey
from cluster_agent.data.errors import DataError

AT_ONCE: Final = 512  # units in a request
REQUEST_BYTES: Final = 1 << 20
ANSWER_BYTES: Final = 4 << 20

Answer = list[tuple[bytes, bytes] | None]
_names: Final = msgspec.msgpack.Decoder(list[UnitKey])
_contents: Final = msgspec.msgpack.Decoder(Answer)


def encode_request(keys: Sequence[UnitKey]) -> bytes:
    """As it is sent."""
    return msgspec.msgpack.encode(keys)


def decode_request(data: bytes) -> list[UnitKey]:
    """What is asked for. ValueError."""
    return _names.decode(data)


def answer(store: Store, keys: Sequence[UnitKey | None]) -> bytes:
    """The answer to a request; None stands for a unit that is not given to who asks."""
    found: Answer = []
    room = ANSWER_BYTES
    for key in keys:
        if key is None:
            found.append(None)
            continue
        try:
            content = store.find(key)
        except DataError:
            found.append(None)
            continue
        room -= content.size
        found.append((content.digest, content.data) if content.data is not None and room >= 0 else None)
    return msgspec.msgpack.encode(found)


def decode_answer(data: bytes, count: int) -> Answer:
    """What came for `count` units. ValueError."""
    found = _contents.decode(data)
    if len(found) != count:
        raise ValueError(f"{len(found)} contents came for {count} units")
    return found
