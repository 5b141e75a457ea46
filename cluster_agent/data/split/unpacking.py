"""Unpacks a tar: each file in it becomes a part, with its own content and name.

Directories have nothing to give. What is neither file nor directory (a link, a device) stands for content that is
elsewhere, so it is an error and not left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records.archive import Member, Members
from cluster_agent.data.records.blocks import Block
from cluster_agent.data.split.base import Part
from cluster_agent.data.split.writing import Writer


def unpack(blocks: Iterator[Block], writer: Writer, stopped: Callable[[], bool]) -> Iterator[list[Part]]:
    """The files of an archive, of which the blocks are aligned."""
    scanner = Members()
    waiting: deque[Member] = deque()
    end = 0
    for block in blocks:
        if stopped():
            return
        scanner.ends(block)
        waiting.extend(member for member in scanner.members if not member.is_directory)
        end = block.stop
        while waiting and waiting[0].start <= block.stop:
            member = waiting[0]
            if not member.is_file:
                raise WrongContentError(
                    f"at byte {member.start}: {member.name} is neither a file nor a directory, so it has no content to "
                    "be a unit; make the archive with --dereference and --hard-dereference, or without it"
                )
            begin, stop = max(member.start, block.base), min(member.stop, block.stop)
            writer.add(memoryview(block.data)[begin - block.base : stop - block.base])
            if member.stop > block.stop:
                break
            waiting.popleft()
            writer.end(name=PurePosixPath(member.name).name)
        if writer.made:
            made, writer.made = writer.made, []
            yield made
    scanner.close(end)
