"""How problems are shown to people.

One problem is two lines: `FILE:LINE: FIELD: MESSAGE`, and below it, indented, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

from topology.problems import Path, Positions, Problem, Severity, field_name

__all__ = ["Path", "Positions", "Problem", "Severity", "field_name", "has_errors", "render"]


def render(problems: Iterable[Problem]) -> str:
    """All problems in the order of their places, each ending in a line break; nothing for none."""
    return "".join(_rendered(problem) for problem in sorted(set(problems)))


def has_errors(problems: Iterable[Problem]) -> bool:
    """Whether any of them is more than a warning."""
    return any(problem.severity == "error" for problem in problems)


def _rendered(problem: Problem) -> str:
    place = (
        problem.file
        if not problem.line
        else f"{problem.file}:{problem.line}"
        if problem.file
        else f"line {problem.line}"
    )
    words = [place, "warning" if problem.severity == "warning" else "", problem.field, problem.message]
    first = ": ".join(word for word in words if word)
    return first + (f"\n    {problem.remedy}\n" if problem.remedy else "\n")
