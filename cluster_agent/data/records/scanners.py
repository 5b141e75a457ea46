"""What reads a format: given the blocks of a file in order, where its records end."""

from __future__ import annotations

from abc import ABC, abstractmethod

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records.blocks import Block
from cluster_agent.data.records.ends import Anywhere, Ends, Marked

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Scanner(ABC):
    """Reads one file. WrongContentError, with the offset, where it is not of the format."""

    def __init__(self) -> None:
        self.ended: int | None = None  # where the last record ends, if the file goes on behind it

    @abstractmethod
    def ends(self, block: Block) -> Ends:
        """Where records end in the next block."""

    def close(self, end: int) -> int:
        """The file ends at `end`; where its last record does."""
        return end


class Lines(Scanner):
    """Text: a record is a line, and ends with a newline byte. So no character of UTF-8 is ever cut."""

    def ends(self, block: Block) -> Ends:
        """See Scanner."""
        if block.base == 0:
            check_encoding(block)
        return Marked(block.base, block.stop, block.data, b"\n")


class Bytes(Scanner):
    """Anything: may be cut everywhere."""

    def ends(self, block: Block) -> Ends:
        """See Scanner."""
        return Anywhere(block.base, block.stop)


def check_encoding(first: Block) -> None:
    """In UTF-16 a newline byte is no newline."""
    if first.data[:2] in _UTF_16:
        raise WrongContentError("at byte 0: the text is UTF-16; convert it to UTF-8, for example with iconv")
