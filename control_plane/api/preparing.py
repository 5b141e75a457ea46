"""From stored objects and given parameters to a request of the planner, pure. ProblemError with all that is wrong.

Imported only when somebody submits or asks for a plan, because it brings the models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.api.applying import told
from control_plane.planner.base import Measured, Request
from control_plane.planner.compile import Definition
from topology.model import Topology
from wire.errors import ProblemError
from workflow.canonical import from_canonical
from workflow.checks import check_workflow
from workflow.errors import ParameterError
from workflow.model import Step, Value, Workflow
from workflow.parameters import resolve, resolve_step


def prepared(
    *,
    namespace: str,
    run: str,
    workflow: cp.Object,
    topology: cp.Object,
    steps: Mapping[str, cp.Object],
    parameters_json: str,
    clusters: Mapping[str, cp.ClusterStatus],
    measured: Mapping[str, Measured],
    epoch: int,
) -> tuple[Request, Mapping[str, Value]]:
    """The planner's request, and the workflow's parameters as they hold."""
    model = from_canonical(workflow.spec_json)
    where = from_canonical(topology.spec_json)
    assert isinstance(model, Workflow)
    assert isinstance(where, Topology)
    definitions: dict[str, Definition] = {}
    for name, stored in steps.items():
        step = from_canonical(stored.spec_json)
        assert isinstance(step, Step)
        definitions[name] = Definition(step, stored.bundle)
    problems = check_workflow(model, {name: each.step for name, each in definitions.items()}, where)
    errors = [told(problem) for problem in problems if problem.severity == "error"]
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
    by_step: dict[str, Mapping[str, Value]] = {}
    for use in model.spec.steps:
        try:
            by_step[use.name] = resolve_step(use, definitions[use.use].step.spec.parameters, values)
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
        topology=where,
        clusters=clusters,
        measured=measured,
        epoch=epoch,
    )
    return request, values


def _given(parameters_json: str) -> dict[str, object]:
    try:
        given = json.loads(parameters_json or "{}")
    except ValueError as error:
        raise ProblemError([cp.Problem(field="parameters", message=f"not JSON: {error}", remedy="")]) from error
    if not isinstance(given, dict):
        message = "expected an object with a value for each parameter"
        raise ProblemError([cp.Problem(field="parameters", message=message, remedy='write {"name": value}')])
    return given
