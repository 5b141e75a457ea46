"""From stored objects and given parameters to a request of the planner, pure. ProblemError with all that is wrong.

Imported only when somebody submits or asks for a plan, because it brings the models. Making models of stored objects,
and checking them against each other, takes longer than all the rest; what was made is kept by the objects' digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.api.applying import told
from control_plane.planner.authored import Definition
from control_plane.planner.base import Measured, Request
from topology.model import Topology
from topology.problems import Problem
from wire.errors import ProblemError
from workflow.canonical import AnyObject, from_canonical
from workflow.checks import check_given_data, check_workflow
from workflow.errors import ParameterError
from workflow.flow.hooks import hooked
from workflow.flow.unfold import PlainPositions, UnfoldingError, folds, unfold
from workflow.model import Step, Value, Workflow
from workflow.parameters import resolve, resolve_step

_KEPT = 256  # workflows with what they stand on


def prepared(
    *,
    namespace: str,
    run: str,
    workflow: cp.Object,
    topology: cp.Object,
    steps: Mapping[str, cp.Object],
    workflows: Mapping[str, cp.Object],
    parameters_json: str,
    hook: str,
    facts: Mapping[str, str],
    measured: Mapping[str, Measured],
    epoch: int,
    fresh: bool = False,
) -> tuple[Request, Mapping[str, Value]]:
    """The planner's request but for the clusters' states, and the workflow's parameters as they hold."""
    known = _checked(
        _Stored(workflow),
        _Stored(topology),
        tuple(_Stored(steps[name]) for name in sorted(steps)),
        tuple(_Stored(workflows[name]) for name in sorted(workflows)),
    )
    model, definitions = known.workflow, known.definitions
    errors = [told(problem) for problem in known.problems]
    values: dict[str, Value] = {}
    try:
        values = resolve(_given(parameters_json), model.spec.parameters)
    except ParameterError as error:
        errors += [
            cp.Problem(field=f"parameters.{fault.name}", message=fault.message, remedy=fault.remedy)
            for fault in error.faults
        ]
    if errors:
        raise ProblemError(errors)
    skipped: Mapping[str, str] = {}
    if hook:
        model = hooked(model, hook, facts)
    elif folds(model):
        model, skipped = _unfolded(known, values)
    by_step: dict[str, Mapping[str, Value]] = {}
    for use in model.spec.steps:
        try:
            declared = definitions[use.use].step.spec.parameters
            by_step[use.name] = resolve_step(use, declared, values if hook or model is known.workflow else {})
        except ParameterError as error:
            errors += [
                cp.Problem(
                    field=f"spec.steps.{use.name}.parameters.{fault.name}",
                    message=fault.message,
                    remedy=fault.remedy,
                )
                for fault in error.faults
            ]
    if errors:
        raise ProblemError(errors)
    request = Request(
        namespace=namespace,
        run=run,
        workflow=model,
        definitions=definitions,
        parameters=by_step,
        topology=known.topology,
        measured=measured,
        epoch=epoch,
        skipped=skipped,
        fresh=fresh,
    )
    return request, values


def _unfolded(known: _Checked, values: Mapping[str, Value]) -> tuple[Workflow, Mapping[str, str]]:
    """The plain workflow that these values make of the one that was checked, and what is skipped. ProblemError."""
    steps = {name: each.step for name, each in known.definitions.items()}
    try:
        unfolded = unfold(known.workflow, values, steps, known.workflows)
    except UnfoldingError as error:
        raise ProblemError([told(problem) for problem in error.problems]) from error
    plain = unfolded.workflow
    names = PlainPositions(uses=tuple(use.name for use in plain.spec.steps))
    problems = [each for each in check_workflow(plain, steps, known.topology, names) if each.severity == "error"]
    if problems:
        raise ProblemError([told(problem) for problem in problems])
    return plain, unfolded.skipped


@dataclass(frozen=True)
class _Checked:
    """Objects as models, and what is wrong with them together."""

    workflow: Workflow
    topology: Topology
    definitions: Mapping[str, Definition]
    workflows: Mapping[str, Workflow]
    problems: Sequence[Problem]


@dataclass(frozen=True)
class _Stored:
    """A stored object, known by its digest."""

    value: cp.Object = field(compare=False)
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self.value.digest)


@lru_cache(maxsize=_KEPT)
def _checked(
    workflow: _Stored, topology: _Stored, steps: tuple[_Stored, ...], workflows: tuple[_Stored, ...]
) -> _Checked:
    model, where = _model(workflow), _model(topology)
    assert isinstance(model, Workflow)
    assert isinstance(where, Topology)
    definitions: dict[str, Definition] = {}
    for stored in steps:
        step = _model(stored)
        assert isinstance(step, Step)
        definitions[step.reference] = Definition(step, stored.value.bundle)
    others: dict[str, Workflow] = {}
    for stored in workflows:
        other = _model(stored)
        assert isinstance(other, Workflow)
        others[other.metadata.name] = other
    by_reference = {name: each.step for name, each in definitions.items()}
    problems = [
        *check_workflow(model, by_reference, where, workflows=others),
        *check_given_data(model),
        *(problem for other in others.values() for problem in _within(other, by_reference, others)),
    ]
    errors = [problem for problem in problems if problem.severity == "error"]
    return _Checked(model, where, definitions, others, errors)


def _within(other: Workflow, steps: Mapping[str, Step], others: Mapping[str, Workflow]) -> Iterator[Problem]:
    """What is wrong with a workflow that is used as a step, told as of that workflow."""
    for problem in check_workflow(other, steps, workflows=others):
        yield replace(problem, field=f"workflow/{other.metadata.name}: {problem.field}")


@lru_cache(maxsize=2 * _KEPT)
def _model(stored: _Stored) -> AnyObject:
    return from_canonical(stored.value.spec_json)


def _given(parameters_json: str) -> dict[str, object]:
    try:
        given = json.loads(parameters_json or "{}")
    except ValueError as error:
        raise ProblemError([cp.Problem(field="parameters", message=f"not JSON: {error}", remedy="")]) from error
    if not isinstance(given, dict):
        message = "expected an object with a value for each parameter"
        raise ProblemError([cp.Problem(field="parameters", message=message, remedy='write {"name": value}')])
    return given
