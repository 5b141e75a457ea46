"""Whether the hooks of a workflow can be executed: a step that needs no data, with parameters that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from topology.errors import WrongValue
from topology.nearest import did_you_mean
from topology.problems import Path, Positions, Problem
from workflow.checks.given import check_given
from workflow.checks.uses import check_uses
from workflow.flow.hooks import FACTS, HookPositions, hooked, hooks_of
from workflow.model import Hook, Step, Workflow
from workflow.placeholders import placeholders


def check_hooks(workflow: Workflow, steps: Mapping[str, Step], where: Positions) -> Iterator[Problem]:
    """What is wrong with the hooks."""
    for moment, hook in hooks_of(workflow).items():
        path: Path = ("spec", "hooks", moment)
        unknown = list(_unknown(hook, path, where))
        yield from unknown
        if unknown:
            continue
        alone = hooked(workflow, moment, dict.fromkeys(FACTS, "…"))
        told = HookPositions(where.file, where.lines, moment)
        step = steps.get(hook.use)
        needed = [port for port, declared in step.spec.inputs.items() if not declared.optional] if step else []
        if needed:
            message = f"{hook.use} reads {', '.join(needed)}, and a hook has no data"
            yield where.problem((*path, "use"), message, "take a step without inputs, and give it parameters")
        else:
            yield from check_uses(alone, steps, told)
        yield from check_given(alone, steps, told)


def _unknown(hook: Hook, path: Path, where: Positions) -> Iterator[Problem]:
    for name, value in hook.parameters.items():
        for text in value if isinstance(value, tuple) else (value,):
            try:
                found = placeholders(text) if isinstance(text, str) else ()
            except WrongValue:
                continue  # told with the parameters
            for one in found:
                if one.kind == "run" and one.name not in FACTS:
                    remedy = did_you_mean(one.name, FACTS, "of the run there is")
                    yield where.problem((*path, "parameters", name), f"{one} names nothing", remedy)
