"""tar: a record is a member, with the headers that speak of it (long names, pax records) and its padding.

Headers that speak of the whole archive, as git writes one, stand before all members and are the archive's header. What
the standard library's `tarfile` knows of a header block is used; but it reads whole archives, and we are given blocks.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records.blocks import Block
from cluster_agent.data.records.ends import Ends, Listed
from cluster_agent.data.records.scanners import Scanner

TRAILER: Final = bytes(2 * tarfile.BLOCKSIZE)
"""What ends an archive."""
_MOST_SAID: Final = 1 << 20  # bytes of pax records of one member
_PAX: Final = re.compile(rb"\d+ (size|path)=([^\n]*)\n")
_GLOBAL: Final = tarfile.XGLTYPE
_SPEAKING: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_BARE: Final = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass(frozen=True, slots=True)
class Member:
    """A member: where its content begins and ends, and its padding ends."""

    name: str
    kind: bytes
    start: int
    stop: int
    end: int

    @property
    def is_file(self) -> bool:
        """It has content of its own, as it is."""
        return self.kind in _FILES

    @property
    def is_directory(self) -> bool:
        """It has none, and needs none."""
        return self.kind == tarfile.DIRTYPE


class Members(Scanner):
    """Reads a tar archive from blocks that are `aligned`. `header`: how long the headers are that speak of it all."""

    def __init__(self) -> None:
        super().__init__()
        self.header = 0
        self.members: list[Member] = []  # whose headers ended in the last block
        self._begin = 0  # of the member whose headers are being read
        self._next = 0  # the next header block, or what a header says
        self._speaks = b""  # kind of the header whose content is being read
        self._wanted = 0  # bytes of it
        self._said = bytearray()  # those that were there
        self._size: int | None = None  # as said
        self._name = ""
        self._open: list[int] = []  # ends of members that are still to come

    def ends(self, block: Block) -> Ends:
        """See Scanner."""
        self.members = []
        while self.ended is None and self._next < block.stop:
            if self._speaks:
                if not self._listen(block):
                    break
            elif self._next + tarfile.BLOCKSIZE > block.stop:
                break  # the file ends here
            else:
                at = self._next - block.base
                self._read(bytes(block.data[at : at + tarfile.BLOCKSIZE]))
        here = [end for end in self._open if end <= block.stop]
        del self._open[: len(here)]
        return Listed(block.base, block.stop, here)

    def close(self, end: int) -> int:
        """See Scanner."""
        if self.ended is None:
            raise WrongContentError(
                f"at byte {end}: the archive ends without the empty blocks that end a tar, so something is missing; "
                "make it anew"
            )
        return self.ended

    # --------------------------------------------------------------------------------------------------- headers

    def _read(self, head: bytes) -> None:
        """A header block."""
        at = self._next
        if not head.strip(b"\0"):
            if self._begin != at:
                raise WrongContentError(f"at byte {self._begin}: what is said of a tar member, and then there is none")
            self.ended = at
            return
        try:
            info = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise WrongContentError(
                f"at byte {at}: not a header of a tar member ({error}); make the archive anew"
            ) from None
        self._next += tarfile.BLOCKSIZE
        if info.type == _GLOBAL:
            if at != self.header:
                raise WrongContentError(
                    f"at byte {at}: a header for all members that follow, behind the first of them, can't be given to "
                    "each part; make the archive anew, without joining others"
                )
            self._next += _padded(info.size)
            self.header = self._begin = self._next
        elif info.type in _SPEAKING:
            if info.size > _MOST_SAID:
                raise WrongContentError(f"at byte {at}: {info.size} bytes about one tar member are too many")
            self._speaks, self._wanted = info.type, info.size
        elif info.type == tarfile.GNUTYPE_SPARSE:
            raise WrongContentError(
                f"at byte {at}: {info.name} is stored as a sparse file; make the archive without --sparse"
            )
        else:
            self._enter(info)

    def _enter(self, info: tarfile.TarInfo) -> None:
        """A member's own header."""
        size = 0 if info.type in _BARE else info.size if self._size is None else self._size
        start, end = self._next, self._next + _padded(size)
        self.members.append(Member(self._name or info.name, info.type, start, start + size, end))
        self._open.append(end)
        self._begin = self._next = end
        self._size, self._name = None, ""

    def _listen(self, block: Block) -> bool:
        """What a header says of the next member; false if there is more of it in the next block."""
        end = self._next + _padded(self._wanted - len(self._said))
        self._said += memoryview(block.data)[self._next - block.base : min(end, block.stop) - block.base]
        self._next = min(end, block.stop)
        if self._next < end:
            return False
        said, kind = bytes(self._said[: self._wanted]), self._speaks
        self._said.clear()
        self._speaks = b""
        if kind == tarfile.GNUTYPE_LONGNAME:
            self._name = said.rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif kind != tarfile.GNUTYPE_LONGLINK:
            for key, value in _PAX.findall(said):
                if key == b"path":
                    self._name = value.decode("utf-8", "surrogateescape")
                else:
                    self._size = int(value)
        return True


def aligned(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same bytes in blocks of whole tar blocks, but for the last."""
    left = b""
    block = Block(0, b"", 0)
    for block in blocks:
        base = block.base - len(left)
        data = left + memoryview(block.data)[: block.size] if left else block.data
        size = len(left) + block.size
        whole = size - size % tarfile.BLOCKSIZE
        left = bytes(memoryview(data)[whole:size])
        if whole:
            yield Block(base, data, whole)
    if left:
        yield Block(block.stop - len(left), left, len(left))


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
