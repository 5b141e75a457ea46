"""Hooks: steps that run after a run has ended, with its name and state as parameters.

A hook is executed as a run of its own, of the same workflow with nothing in it but the hook's step: it is planned,
retried, shown and kept as any run. `hooked` makes that workflow, with what is known of the ended run filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from topology.problems import Path, Positions, Problem, Severity
from workflow.model import Caching, Hook, Policy, Scalar, StepUse, Value, Workflow
from workflow.placeholders import Placeholder, escaped, parse

Moment = Literal["exit", "success", "failure"]
MOMENTS: Final[tuple[Moment, ...]] = ("exit", "success", "failure")
FACTS: Final = ("name", "workflow", "state", "message")


def hooks_of(workflow: Workflow) -> dict[Moment, Hook]:
    """The hooks that a workflow has, by the moment."""
    found = {moment: getattr(workflow.spec.hooks, moment) for moment in MOMENTS}
    return {moment: hook for moment, hook in found.items() if hook is not None}


def hooked(workflow: Workflow, moment: str, facts: Mapping[str, str]) -> Workflow:
    """The workflow that executes a hook; `facts` of the run that has ended stand for `{run.NAME}`."""
    hook = getattr(workflow.spec.hooks, moment)
    use = StepUse(
        name=moment,
        use=hook.use,
        parameters={name: _told(value, facts) for name, value in hook.parameters.items()},
        place=hook.place,
        timeout=hook.timeout,
        retry=hook.retry,
        resources=hook.resources,
        cache=Caching(enabled=False),  # it is executed for what it does
    )
    spec = workflow.spec.model_copy(
        update={"steps": (use,), "inputs": {}, "outputs": {}, "policy": Policy(), "hooks": type(workflow.spec.hooks)()}
    )
    return workflow.model_copy(update={"spec": spec})


def _told(value: Value, facts: Mapping[str, str]) -> Value:
    if isinstance(value, tuple):
        return tuple(_filled(each, facts) for each in value)
    return _filled(value, facts)


def _filled(value: Scalar, facts: Mapping[str, str]) -> Scalar:
    if not isinstance(value, str):
        return value
    written = []
    for part in parse(value):
        if isinstance(part, Placeholder) and part.kind == "run" and part.name in facts:
            written.append(str(escaped(facts[part.name])))
        else:
            written.append(str(part) if isinstance(part, Placeholder) else str(escaped(part)))
    return "".join(written)


@dataclass(frozen=True)
class HookPositions(Positions):
    """Of a workflow that executes a hook: what is wrong with its one step is told of the hook."""

    moment: str = ""

    def problem(self, path: Path, message: str, remedy: str = "", severity: Severity = "error") -> Problem:
        """A problem with the field at `path`."""
        match path:
            case ("spec", "steps", 0, *rest):
                path = ("spec", "hooks", self.moment, *rest)
        return super().problem(path, message, remedy, severity)
