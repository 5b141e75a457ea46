"""What is wrong with a function that is to be a step or a workflow."""

from __future__ import annotations

from collections.abc import Sequence

from topology.problems import Problem


class BuildError(Exception):
    """A step or workflow can't be made as it is written; the message says of which function, why, and what to do."""

    @classmethod
    def of(cls, name: str, problems: Sequence[Problem]) -> BuildError:
        """All that the checks find in what was built."""
        lines = [f"{each.field}: {each.message}" + (f" ({each.remedy})" if each.remedy else "") for each in problems]
        return cls("\n".join([f"{name} is not right:", *(f"  {line}" for line in lines)]))
