"""What durable things are made of: records, the structs that they change, and sums that stand for sets of ids."""

from __future__ import annotations

from typing import Final

import msgspec

_MASK: Final = (1 << 128) - 1


class Record(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: compact, immutable, told apart from the others by its name."""


class Stored(msgspec.Struct, array_like=True, gc=False):
    """A mutable part of the durable state. None of it refers back to what holds it, so there is nothing to collect."""


class Sum:
    """A growing set of ids in constant size: how many, and their sum, which is told modulo 2**128.

    Not a struct: it is added to several times a task, and the sum is brought into its 16 bytes only when it is told.
    """

    __slots__ = ("_sum", "count")

    def __init__(self, count: int = 0, total: bytes = b"") -> None:
        self.count = count
        self._sum = int.from_bytes(total, "big")

    @property
    def total(self) -> bytes:
        """The sum: 16 bytes, big endian."""
        return (self._sum & _MASK).to_bytes(16, "big")

    def add(self, identifier: bytes) -> None:
        """Put one more id into the set."""
        self.count += 1
        self._sum += int.from_bytes(identifier, "big")

    def include(self, other: Sum) -> None:
        """Put all ids of a disjoint set into this one."""
        self.count += other.count
        self._sum += other._sum

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sum) and self.count == other.count and not (self._sum - other._sum) & _MASK

    __hash__ = None  # type: ignore[assignment]


def encode_sum(value: object) -> object:
    """A sum as MessagePack has it, for the encoder of what holds sums."""
    if isinstance(value, Sum):
        return value.count, value.total
    raise NotImplementedError(type(value))


def decode_sum(_kind: type, value: tuple[int, bytes]) -> Sum:
    """The sum of `encode_sum`."""
    return Sum(*value)
