"""How several things that are wrong at once cross the wire: as a Problems message in the trailing metadata.

A status line has room for one sentence. A person who applies ten files wants all that is wrong with them, with file and
line, so the server attaches the list and the client gets it back as one exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bdw_fed.v1.control_plane_pb2 import Problem, Problems

if TYPE_CHECKING:
    import grpc

METADATA_KEY = "bdw-fed-problems-bin"
_METADATA_BYTES = 6 * 1024  # peers refuse more than 8 KiB of metadata


class ProblemError(Exception):
    """One or more things are wrong with what was given."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(line, problems)))
        self.problems = list(problems)


def line(problem: Problem) -> str:
    """What is wrong as `FILE:LINE: FIELD: MESSAGE`, as far as there are these; without what to do."""
    place = f"{problem.file}:{problem.line}: " if problem.file else ""
    field = f"{problem.field}: " if problem.field else ""
    return f"{place}{field}{problem.message}"


def problems_to_metadata(problems: Iterable[Problem]) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata for a status; what does not fit is left out, and a last problem says how many."""
    packed = Problems()
    left_out = 0
    for problem in problems:
        if left_out or packed.ByteSize() + problem.ByteSize() > _METADATA_BYTES:
            left_out += 1
        else:
            packed.problems.append(problem)
    if left_out:
        packed.problems.append(Problem(message=f"and {left_out} more", remedy="Mend these first, then try again."))
    return ((METADATA_KEY, packed.SerializeToString()),)


def problems_from_error(error: grpc.RpcError) -> list[Problem]:
    """The problems that came with a failed call; empty if none did."""
    trailing: Any = getattr(error, "trailing_metadata", tuple)()
    for key, value in trailing or ():
        if key == METADATA_KEY:
            return list(Problems.FromString(value).problems)
    return []
