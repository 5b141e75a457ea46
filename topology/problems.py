"""What is wrong with what somebody wrote, and where it stands.

The loader notes the line of every field in a `Positions`; loader and checks make a `Problem` of every fault they find.
A field is told by its path, as in `spec.steps[1].in.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Path = tuple[str | int, ...]
Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Problem:
    """A fault: file and line (1 is the first, 0 = not known), field, what is wrong and was expected, what to do.

    A warning does not keep an object from being applied.
    """

    file: str
    line: int
    field: str
    message: str
    remedy: str = ""
    severity: Severity = "error"


@dataclass(frozen=True)
class Positions:
    """The lines on which the fields of one document stand. An object without a file has none."""

    file: str = ""
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of a field, or of the nearest thing around it; 0 = not known."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 0

    def problem(self, path: Path, message: str, remedy: str = "", severity: Severity = "error") -> Problem:
        """A problem with the field at `path`."""
        return Problem(self.file, self.line(path), field_name(path), message, remedy, severity)


def field_name(path: Path) -> str:
    """A path as people read it: `spec.steps[1].in.rows`."""
    name = ""
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name
