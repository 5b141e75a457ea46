"""Whether a workflow that is submitted has data: what may be left open in one that others use as a step."""

from __future__ import annotations

from collections.abc import Iterator

from topology.problems import Positions, Problem
from workflow.model import Workflow


def check_given_data(workflow: Workflow) -> Iterator[Problem]:
    """Each input of a workflow that is executed by itself names its dataset."""
    for name, given in workflow.spec.inputs.items():
        if given.dataset is None:
            yield Positions().problem(
                ("spec", "inputs", name),
                f"input {name} names no dataset, so the workflow can only be used as a step of another",
                f"write {name}: {{dataset: NAME}}, or submit a workflow that uses this one",
            )
