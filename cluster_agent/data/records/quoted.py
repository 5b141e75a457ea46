"""CSV: a record ends with a newline that is not within quotation marks.

Whether a byte is within quotes is the parity of the quotes before it, so a doubled quote within a field needs no care.
The parities of a block are computed 64 bytes at a time, by shifts of its quotes packed into bits, which takes as long
with many quotes as with few. A block without quotes is read like any text.

A quote that belongs to no pair, as in `5" pipe`, would turn all parities behind it round. Where a field spans lines,
its quotes are therefore looked at: the first must stand where a field begins, the last where one ends.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records.blocks import Block
from cluster_agent.data.records.ends import Ends, Marked, Packed
from cluster_agent.data.records.scanners import Scanner, check_encoding

_BESIDE: Final = b',;|\t\n\r "'  # what may stand outside of a field's quotes; a quote: it is doubled
_QUOTE: Final = ord('"')
_NEWLINE: Final = ord("\n")
_BOM: Final = b"\xef\xbb\xbf"
_TABLE: Final = bytes(byte in _BESIDE for byte in range(256))
_WORD: Final = "<u8"
_OPENS: Final = (
    "a quotation mark in the middle of a field, and the next one is on another line, so it can't be told what is "
    "quoted; quote the whole field and double the mark, or write format: text if no field spans lines"
)
_CLOSES: Final = (
    "a quoted field that spans lines is closed here, and goes on; double the quotation marks within it, or write "
    "format: text if no field spans lines"
)


class Quoted(Scanner):
    """Reads CSV, whatever separates its fields."""

    def __init__(self) -> None:
        super().__init__()
        self._inside = False  # a quoted field is open
        self._opened = 0  # where, if it is
        self._fits = True  # its quote stands where a field begins
        self._spans = False  # there was a newline since
        self._before = _NEWLINE  # the last byte of the block before

    def ends(self, block: Block) -> Ends:
        """See Scanner."""
        if block.base == 0:
            check_encoding(block)
        found = self._parities(block) if block.data.find(b'"', 0, block.size) >= 0 else self._unquoted(block)
        self._before = block.data[block.size - 1]
        return found

    def close(self, end: int) -> int:
        """See Scanner."""
        if self._inside:
            raise WrongContentError(
                f"at byte {self._opened}: a field is quoted from here on and never closed; mend the file, or write "
                "format: text if its quotes mean nothing"
            )
        return end

    def _unquoted(self, block: Block) -> Ends:
        """A block without any quote is within a field, or none of it is."""
        if not self._inside:
            return Marked(block.base, block.stop, block.data, b"\n")
        if block.data.find(b"\n", 0, block.size) >= 0:
            self._spans = True
            self._check_open()
        return Marked(block.base, block.stop, b"", b"\n")

    def _parities(self, block: Block) -> Ends:
        import numpy as np  # here: it takes 25 MB, and many daemons never need it

        values = np.frombuffer(block.data, np.uint8, block.size)
        quotes = _packed(np, values == _QUOTE)
        newlines = _packed(np, values == _NEWLINE)
        inside = quotes.copy()
        for shift in (1, 2, 4, 8, 16, 32):
            inside ^= inside << np.uint64(shift)
        parities = np.bitwise_xor.accumulate(inside >> np.uint64(63))  # at the end of each word
        before = np.empty_like(parities)
        before[0] = self._inside
        before[1:] = parities[:-1] ^ np.uint64(self._inside)
        inside ^= np.uint64(0) - before
        within = newlines & inside
        if self._spans or within.any():
            data = block.data if len(block.data) == block.size else block.data[: block.size]
            beside = np.frombuffer(data.translate(_TABLE), np.uint8)
            self._look(np, block, quotes & inside, quotes & ~inside, _packed(np, beside))
        last = block.data.rfind(b'"', 0, block.size)
        self._opened, self._fits = block.base + last, self._begins(block, last)
        self._inside = bool(inside[-1] >> np.uint64(63))
        self._spans = self._inside and block.data.find(b"\n", last, block.size) >= 0
        if self._spans:
            self._check_open()
        ends = newlines & ~inside
        size = block.size
        return Packed(block.base, block.stop, ends.tobytes(), lambda: _unpacked(np, ends, size).tobytes())

    def _look(self, np: ModuleType, block: Block, opening: Any, closing: Any, beside: Any) -> None:
        """Look at the quotes that open fields and close them; all are bits, also where a byte may stand `beside` one.

        A quote that stands wrong is an error if there is a newline between it and the one that it pairs with.
        """
        data, size = block.data, block.size
        one, most = np.uint64(1), np.uint64(63)
        before = beside << one
        before[1:] |= beside[:-1] >> most
        before[0] |= np.uint64(self._before in _BESIDE)
        after = beside >> one
        after[:-1] |= beside[1:] << most
        after[(size - 1) // 64] |= one << np.uint64((size - 1) % 64)  # what follows is not here
        if self._inside and data.find(b"\n", 0, data.find(b'"')) >= 0:
            self._check_open()
        wrong = []
        for position in _where(np, opening & ~before, size):
            following = data.find(b'"', position + 1, size)
            if (
                not self._begins(block, position)
                and data.find(b"\n", position, following if following > 0 else size) > 0
            ):
                wrong.append((position, _OPENS))
                break
        for position in _where(np, closing & ~after, size):
            former = data.rfind(b'"', 0, position)
            if data.find(b"\n", max(0, former), position) >= 0 or (former < 0 and self._spans):
                wrong.append((position, _CLOSES))
                break
        if wrong:
            position, what = min(wrong)
            raise WrongContentError(f"at byte {block.base + position}: {what}")

    def _begins(self, block: Block, position: int) -> bool:
        """Whether a field may begin with the quote at `position`."""
        before = block.data[position - 1] if position else self._before
        return before in _BESIDE or (block.base + position == len(_BOM) and before == _BOM[-1])

    def _check_open(self) -> None:
        """The quote that is open was followed by a newline, so it should be one that opens a field."""
        if not self._fits:
            raise WrongContentError(f"at byte {self._opened}: {_OPENS}")


def _packed(np: ModuleType, flags: Any) -> Any:
    """Flags as bits of 64-bit words, the first in the lowest."""
    bits = np.packbits(flags, bitorder="little")
    if missing := -len(bits) % 8:
        bits = np.concatenate((bits, np.zeros(missing, np.uint8)))
    return bits.view(_WORD)


def _unpacked(np: ModuleType, words: Any, size: int) -> Any:
    """The first `size` bits of words as bytes, each 0 or 1."""
    return np.unpackbits(words.view(np.uint8), count=size, bitorder="little")


def _where(np: ModuleType, words: Any, size: int) -> list[int]:
    """The positions of the bits that are set: few, as a rule."""
    return np.flatnonzero(_unpacked(np, words, size)).tolist() if words.any() else []
