"""The compact protocol of Thrift, in which Parquet writes its footers: read into plain values, and written again.

A struct is read whole, also fields that nobody here knows, and is written as it was but for what was changed. So parts
of a file keep whatever the file's writer has put into the footer. A struct is a list of fields, in order; a value that
is no struct and no list stays the bytes or the number that it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TRUE: Final = 1
FALSE: Final = 2
BYTE: Final = 3
I16: Final = 4
I32: Final = 5
I64: Final = 6
DOUBLE: Final = 7
BINARY: Final = 8
LIST: Final = 9
SET: Final = 10
MAP: Final = 11
STRUCT: Final = 12
_INTEGERS: Final = (I16, I32, I64)
_DEEPEST: Final = 32


@dataclass(slots=True)
class Items:
    """A list or a set: the kind of its items, and they."""

    kind: int
    values: list[object]


@dataclass(slots=True)
class Pairs:
    """A map: the kinds of keys and values, and the pairs."""

    kinds: tuple[int, int]
    values: list[tuple[object, object]]


class Struct:
    """Fields by number, in the order in which they were written."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[int, tuple[int, object]] = {}  # number -> (kind, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Struct) and self.fields == other.fields

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, number: int) -> bool:
        return number in self.fields

    def integer(self, number: int, default: int | None = None) -> int:
        """The integer of that number. ValueError if there is none and no default."""
        value = self.fields.get(number, (0, default))[1]
        if not isinstance(value, int):
            raise ValueError(f"field {number} is no integer")
        return value

    def struct(self, number: int) -> Struct:
        """The struct of that number. ValueError."""
        value = self.fields.get(number, (0, None))[1]
        if not isinstance(value, Struct):
            raise ValueError(f"field {number} is no struct")
        return value

    def structs(self, number: int) -> list[Struct]:
        """The list of structs of that number; empty if there is none. ValueError."""
        value = self.fields.get(number, (0, Items(STRUCT, [])))[1]
        if not isinstance(value, Items):
            raise ValueError(f"field {number} is no list")
        found = [each for each in value.values if isinstance(each, Struct)]
        if len(found) != len(value.values):
            raise ValueError(f"field {number} is no list of structs")
        return found

    def set_integer(self, number: int, value: int) -> None:
        """Change an integer that is there."""
        self.fields[number] = (self.fields[number][0], value)

    def without(self, *numbers: int) -> Struct:
        """A copy without some fields."""
        copy = Struct()
        copy.fields = {number: field for number, field in self.fields.items() if number not in numbers}
        return copy


class Reader:
    """Reads one struct from bytes. ValueError where they are none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int = 0) -> Struct:
        """The next struct."""
        if depth > _DEEPEST:
            raise ValueError("structs lie too deep in each other")
        found = Struct()
        number = 0
        while head := self._byte():
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else _signed(self._varint())
            found.fields[number] = (kind, self._value(kind, depth, within=False))
        return found

    def _value(self, kind: int, depth: int, *, within: bool) -> object:
        """A value; `within` a list, where true and false have a byte of their own."""
        if kind in (TRUE, FALSE):
            return (self._byte() if within else kind) == TRUE
        if kind == BYTE:
            return self._take(1)
        if kind in _INTEGERS:
            return _signed(self._varint())
        if kind == DOUBLE:
            return self._take(8)
        if kind == BINARY:
            return self._take(self._varint())
        if kind in (LIST, SET):
            return self._items(depth)
        if kind == MAP:
            return self._pairs(depth)
        if kind == STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"there is no kind {kind}")

    def _items(self, depth: int) -> Items:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        kind = head & 15
        self._check(count)
        return Items(kind, [self._value(kind, depth + 1, within=True) for _ in range(count)])

    def _pairs(self, depth: int) -> Pairs:
        count = self._varint()
        if not count:
            return Pairs((0, 0), [])
        self._check(count)
        kinds = self._byte()
        key, value = kinds >> 4, kinds & 15
        pairs = [
            (self._value(key, depth + 1, within=True), self._value(value, depth + 1, within=True)) for _ in range(count)
        ]
        return Pairs((key, value), pairs)

    def _check(self, count: int) -> None:
        if count > len(self._data) - self._at:
            raise ValueError(f"{count} values don't fit")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise ValueError("it ends too early")
        self._at += size
        return found

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number has more than 64 bits")


def write(struct: Struct) -> bytes:
    """The bytes of a struct."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def _write_struct(out: bytearray, struct: Struct) -> None:
    before = 0
    for number, (kind, value) in struct.fields.items():
        written = kind if kind not in (TRUE, FALSE) else TRUE if value else FALSE
        if 0 < number - before < 16:
            out.append((number - before) << 4 | written)
        else:
            out.append(written)
            _write_varint(out, _zigzag(number))
        before = number
        if kind not in (TRUE, FALSE):
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: object) -> None:
    if isinstance(value, bool):
        out.append(TRUE if value else FALSE)
    elif isinstance(value, int):
        _write_varint(out, _zigzag(value))
    elif isinstance(value, bytes):
        if kind == BINARY:
            _write_varint(out, len(value))
        out += value
    elif isinstance(value, Items):
        if len(value.values) < 15:
            out.append(len(value.values) << 4 | value.kind)
        else:
            out.append(15 << 4 | value.kind)
            _write_varint(out, len(value.values))
        for each in value.values:
            _write_value(out, value.kind, each)
    elif isinstance(value, Pairs):
        _write_varint(out, len(value.values))
        if value.values:
            out.append(value.kinds[0] << 4 | value.kinds[1])
        for key, each in value.values:
            _write_value(out, value.kinds[0], key)
            _write_value(out, value.kinds[1], each)
    elif isinstance(value, Struct):
        _write_struct(out, value)
    else:
        raise TypeError(f"{type(value).__name__} is no value of a struct")


def _write_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
