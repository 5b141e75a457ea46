"""The names of a run's lines of history.

A run has mostly one line, which has the run's own name. Where a lost cluster is replaced and the run's policy may come
back to what was there (`keep`), the replacement is a second line beside the first. To whoever executes (coordinators,
nodes, peers) a line is a run: its name is all that it goes by, so that nothing of two lines can ever be mixed. What
tasks and units are does not depend on the line: their ids are made with the run's name, `run_of`.
"""

from __future__ import annotations

CACHE = "cache.-"
"""Stands for a run where the contents of caches have their names: no run and no line is called so."""

LONGEST = 58  # characters of a run's own name
_MARK = ".-"  # which no run's own name has


def line_name(run: str, revision: int) -> str:
    """The name of the line that begins with this revision of the run's plan."""
    return f"{run}{_MARK}{revision}"


def run_of(name: str) -> str:
    """The run whose line this is."""
    return name.partition(_MARK)[0]


def is_second(name: str) -> bool:
    """Whether the line is not the run's first."""
    return _MARK in name


def begins_with(name: str) -> int:
    """The revision of the plan that the line begins with."""
    return int(name.partition(_MARK)[2] or 1)


def may_name_a_run(name: str) -> bool:
    """Whether a run may have this name: it is no line's, and leaves room for the names of its lines."""
    return _MARK not in name and len(name) <= LONGEST
