"""Whether a run of the workflow can get on within its own quota, as far as that can be known before it begins."""

from __future__ import annotations

from collections.abc import Iterator

from topology.problems import Positions, Problem
from topology.quantity import format_size
from workflow.model import Workflow


def check_quota(workflow: Workflow, where: Positions) -> Iterator[Problem]:
    """Parts of files that are larger than all that the run may store."""
    quota = workflow.spec.policy.quota
    for index, use in enumerate(workflow.spec.steps) if quota else ():
        for port, binding in use.inputs.items():
            split = binding.split
            if split is not None and split.size is not None and split.size > quota:
                yield where.problem(
                    ("spec", "steps", index, "in", port, "split", "size"),
                    f"a part of {format_size(split.size)} does not fit into policy.quota, {format_size(quota)}",
                    "make the parts smaller, or raise the quota",
                )
