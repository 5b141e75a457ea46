"""What a stored workflow uses, read from its canonical form without making a model of it."""

from __future__ import annotations

import json

from bdw_fed.v1 import control_plane_pb2 as cp

_WORKFLOW = "workflow/"


def steps_used(workflow: cp.Object) -> list[str]:
    """The steps, by reference ("clean-flights@1")."""
    return [use for use in _uses(workflow) if not use.startswith(_WORKFLOW)]


def workflows_used(workflow: cp.Object) -> list[str]:
    """The workflows that it uses as steps, by name."""
    return [use.removeprefix(_WORKFLOW) for use in _uses(workflow) if use.startswith(_WORKFLOW)]


def hooks_used(workflow: cp.Object) -> list[str]:
    """The moments for which it has hooks."""
    return sorted(json.loads(workflow.spec_json)["spec"].get("hooks", {}))


def _uses(workflow: cp.Object) -> list[str]:
    spec = json.loads(workflow.spec_json)["spec"]
    return [use["use"] for use in (*spec["steps"], *spec.get("hooks", {}).values())]
