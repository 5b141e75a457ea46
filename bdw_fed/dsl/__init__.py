"""Workflows written as Python: functions become steps, calls become edges, and what comes of it is the YAML of others.

    @step functions ──▶ steps with their code (bundles)  ─┐
    @workflow function, called once with handles ─▶ uses  ├─▶ models ─▶ the same checks ─▶ YAML ─▶ apply, submit
    parameters, datasets ─────────────────────────────────┘

Nothing here runs a step: a decorated function called outside of a workflow is the plain function, and inside it is a
note that the step is used there. `docs/python-builder.md` is the page for users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdw_fed.dsl.conditions import each, when
    from bdw_fed.dsl.errors import BuildError
    from bdw_fed.dsl.handles import Data, Dataset
    from bdw_fed.dsl.steps import step
    from bdw_fed.dsl.workflows import workflow

__all__ = ["BuildError", "Data", "Dataset", "each", "step", "when", "workflow"]

_WHERE = {
    "BuildError": "errors",
    "Data": "handles",
    "Dataset": "handles",
    "each": "conditions",
    "step": "steps",
    "when": "conditions",
    "workflow": "workflows",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
