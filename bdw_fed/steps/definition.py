"""The definition of a step that is worked on, read from its file and checked as `apply` checks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bdw_fed.steps.errors import StepError
from bdw_fed.v1.control_plane_pb2 import Problem
from topology.problems import Problem as Fault
from wire.errors import ProblemError
from workflow.checks import check_step
from workflow.errors import ParameterError
from workflow.load import read
from workflow.model import Step, Value
from workflow.parameters import resolve


def read_definition(file: Path, reference: str = "") -> Step:
    """The step in a file; the one of that name and version, if it is given. ProblemError, StepError."""
    if not file.is_file():
        raise StepError(f"{file}: no such file; expected a step's definition (bdw-fed step init makes a project)")
    loaded = read(file)
    steps = [(one.model, one.positions) for one in loaded.documents if isinstance(one.model, Step)]
    found = [(step, where) for step, where in steps if reference in ("", step.reference)]
    problems = [*loaded.problems, *(fault for step, where in found for fault in check_step(step, where))]
    if problems:
        raise ProblemError([_told(problem) for problem in problems])
    if len(found) != 1:
        names = ", ".join(step.reference for step, _ in steps) or "none"
        wanted = f"step {reference}" if reference else "one step"
        raise StepError(f"{file}: expected {wanted}, found {names}; --step names one, as NAME@VERSION")
    return found[0][0]


def _told(fault: Fault) -> Problem:
    return Problem(file=fault.file, line=fault.line, field=fault.field, message=fault.message, remedy=fault.remedy)


def values(step: Step, given: Mapping[str, object]) -> dict[str, Value]:
    """The parameters of a trial. StepError with all that is wrong with them."""
    try:
        return resolve(given, step.spec.parameters)
    except ParameterError as error:
        faults = (f"parameter {fault.name}: {fault.message}; {fault.remedy}" for fault in error.faults)
        raise StepError("\n".join(faults)) from None
