"""From a workflow as its author wrote it to the plain one that is executed, with the parameters of one run.

Conditions are decided, loops become one use for each combination of their items (`NAME-0`, `NAME-1`, …), a workflow
used as a step becomes its own steps (`NAME:STEP`). A port that reads from a loop reads from all of its uses; one that
reads from a workflow reads what that output reads. What is skipped is told with the reason, and so is what only depends
on it: a port whose every source is skipped has nothing to read, and unless it is optional and drives nothing, its step
is skipped as well.

All of this rests on parameters. A condition on values that steps make could only be decided while the run goes on: it
would not be unfolded here, but travel with its step to whoever forms the step's tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from topology.errors import WrongValue
from topology.problems import Path, Positions, Problem, Severity
from workflow.errors import ParameterError
from workflow.expressions import compiled
from workflow.flow.loops import combinations
from workflow.flow.nested import MOST_DEPTH
from workflow.graph import INPUTS, driving_port, makers, topological_order, written
from workflow.model import Binding, Hooks, Scalar, Step, StepUse, Value, Workflow, WorkflowInput, WorkflowOutput
from workflow.parameters import resolve_step
from workflow.placeholders import escaped

MOST_USES: Final = 500
LONGEST_NAME: Final = 200  # it becomes part of file names

Sources = tuple[str, ...]  # of a plain workflow; empty: nothing is to be read there


class UnfoldingError(ValueError):
    """A workflow can't be unfolded with these parameters; all problems at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class Unfolded:
    """The plain workflow, and what is not in it: the uses and outputs that are skipped, each with the reason."""

    workflow: Workflow
    skipped: Mapping[str, str]


@dataclass(frozen=True)
class PlainPositions(Positions):
    """Of a plain workflow, which nobody wrote: its uses are told by their names, in their order here."""

    uses: tuple[str, ...] = ()

    def problem(self, path: Path, message: str, remedy: str = "", severity: Severity = "error") -> Problem:
        """A problem with the field at `path`."""
        match path:
            case ("spec", "steps", int() as index, *rest):
                path = ("spec", "steps", self.uses[index], *rest)
        return super().problem(path, message, remedy, severity)


def folds(workflow: Workflow) -> bool:
    """Whether a workflow has anything to unfold."""
    return any(use.when is not None or use.for_each is not None or use.workflow for use in workflow.spec.steps)


def unfold(
    workflow: Workflow, values: Mapping[str, Value], steps: Mapping[str, Step], workflows: Mapping[str, Workflow]
) -> Unfolded:
    """The plain workflow, for the parameters as they hold.

    The workflow is taken to be checked beside `steps` (by NAME@VERSION) and `workflows` (by name). Raises
    `UnfoldingError` where what only shows with the parameters is wrong.
    """
    making = _Making(steps, workflows)
    whole = _Scope(making, workflow, values, "", {}, 0)
    whole.unfold()
    outputs: dict[str, WorkflowOutput] = {}
    for name, output in workflow.spec.outputs.items():
        sources = whole.sources(output)
        if sources:
            outputs[name] = output.model_copy(update={"source": sources[0], "also": sources[1:]})
        else:
            making.skipped[f"outputs.{name}"] = f"what it reads is skipped: {', '.join(output.sources)}"
    if making.problems:
        raise UnfoldingError(tuple(making.problems))
    if not making.uses:
        raise UnfoldingError((Positions().problem(("spec", "steps"), "every step is skipped", "change a parameter"),))
    spec = workflow.spec.model_copy(
        update={
            "steps": tuple(making.uses),
            "inputs": making.inputs,
            "outputs": outputs,
            "parameters": {},
            "hooks": Hooks(),
        }
    )
    return Unfolded(workflow.model_copy(update={"spec": spec}), making.skipped)


@dataclass
class _Making:
    """What comes of unfolding, and what it draws on."""

    steps: Mapping[str, Step]
    workflows: Mapping[str, Workflow]
    uses: list[StepUse] = field(default_factory=list)
    inputs: dict[str, WorkflowInput] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, use: str, path: Path, message: str, remedy: str) -> None:
        self.problems.append(Positions().problem(("spec", "steps", use, *path), message, remedy))


class _Scope:
    """One workflow with its parameters, in the place where it is used. `given`: what its inputs read there."""

    def __init__(
        self,
        making: _Making,
        workflow: Workflow,
        values: Mapping[str, Value],
        prefix: str,
        given: Mapping[str, Sources],
        depth: int,
    ) -> None:
        self._making = making
        self._workflow = workflow
        self._values = values
        self._prefix = prefix
        self._given = given
        self._depth = depth
        self._made: dict[str, list[str | _Scope]] = {}  # use → the plain uses, or the workflows, that it became
        if not prefix:
            making.inputs.update(workflow.spec.inputs)

    def unfold(self) -> None:
        """Unfold each use, after those that it reads from."""
        uses = {use.name: use for use in self._workflow.spec.steps}
        for name in topological_order(self._workflow):
            self._made[name] = []
            if len(self._making.uses) <= MOST_USES and self._depth <= MOST_DEPTH:
                self._repeat(uses[name])
        if len(self._making.uses) > MOST_USES or self._depth > MOST_DEPTH:
            limit = f"{MOST_USES} steps" if self._depth <= MOST_DEPTH else f"{MOST_DEPTH} workflows in each other"
            problem = Positions().problem(
                ("spec", "steps"), f"unfolds into more than {limit}", "let steps take units instead of repeating them"
            )
            self._making.problems[:] = [*(each for each in self._making.problems if each != problem), problem]

    def sources(self, reads: Binding | WorkflowOutput) -> Sources:
        """What a port or an output of this workflow reads in the plain one."""
        return tuple(dict.fromkeys(plain for source in reads.sources for plain in self._plain(source)))

    def _plain(self, source: str) -> Iterator[str]:
        step, port = written(source)
        if step == INPUTS:
            yield from self._input(port)
            return
        for made in self._made[step]:
            if isinstance(made, _Scope):
                yield from made.sources(made._workflow.spec.outputs[port])
            else:
                yield f"{made}.{port}"

    def _input(self, name: str) -> Sources:
        if name in self._given:
            return self._given[name]
        declared = self._workflow.spec.inputs[name]
        plain = f"{self._prefix}:{name}" if self._prefix else name
        self._making.inputs.setdefault(plain, declared)
        return (f"{INPUTS}.{plain}",)

    def _repeat(self, use: StepUse) -> None:
        name = f"{self._prefix}:{use.name}" if self._prefix else use.name
        if use.for_each is None:
            self._one(use, name, {})
            return
        try:
            items = combinations(use.for_each, self._values)
        except WrongValue as wrong:
            self._making.wrong(name, ("for_each",), wrong.message, wrong.remedy)
            return
        if not items:
            self._making.skipped[name] = "for_each has no items"
        for index, item in enumerate(items):
            self._one(use, f"{name}-{index}", item)

    def _decided(self, use: StepUse, name: str, item: Mapping[str, Scalar]) -> tuple[bool, str | None]:
        """Whether a use takes part, and the condition that is left to be judged when steps have made what it names."""
        if use.when is None:
            return True, None
        condition, values = compiled(use.when), {"param": self._values, "item": item}
        if not condition.makers:
            if not condition.holds(values):
                self._making.skipped[name] = f"when: {use.when}"
                return False, None
            return True, None
        made: dict[tuple[str, str], str] = {}
        for step, port in condition.makers:
            plain = tuple(self._plain(f"{step}.{port}"))
            if not plain:
                self._making.skipped[name] = f"what its condition names is skipped: {step}.{port}"
                return False, None
            if len(plain) > 1:
                raise WrongValue(
                    f"{step}.{port} is made by {len(plain)} steps, and a condition compares one value",
                    "let a step read them by an input that gathers, and decide",
                )
            made[step, port] = plain[0]
        return True, condition.resolved(values, made)

    def _makers(self, use: StepUse, name: str) -> dict[str, str] | None:
        """Of the parameters that other steps make, who makes them here; None if one of those is skipped."""
        found: dict[str, str] = {}
        for parameter, (step, port) in makers(use).items():
            plain = tuple(self._plain(f"{step}.{port}"))
            if not plain:
                self._making.skipped[name] = f"what makes its parameter {parameter} is skipped: {step}.{port}"
                return None
            if len(plain) > 1:
                message = f"{step}.{port} is made by {len(plain)} steps, and a parameter is one value"
                remedy = "read them by an input that gathers"
                self._making.wrong(name, ("parameters", parameter), message, remedy)
                return None
            found[parameter] = "{" + plain[0] + "}"
        return found

    def _one(self, use: StepUse, name: str, item: Mapping[str, Scalar]) -> None:
        """A use with one combination of items: it, its own steps if it is a workflow, or nothing if it is skipped."""
        making = self._making
        if len(name) > LONGEST_NAME:
            message = f"the name of this step is longer than {LONGEST_NAME} characters"
            making.wrong(name, ("name",), message, "give the workflows around it shorter names for their steps")
            return
        known = making.workflows[use.workflow].spec if use.workflow else making.steps[use.use].spec
        try:
            holds, when = self._decided(use, name, item)
        except WrongValue as wrong:
            making.wrong(name, ("when",), wrong.message, wrong.remedy)
            return
        if not holds:
            return
        made = self._makers(use, name)
        if made is None:
            return
        reads = {port: self.sources(binding) for port, binding in use.inputs.items()}
        for port, sources in reads.items():
            needed = not use.workflow and (
                port == driving_port(use) or not making.steps[use.use].spec.inputs[port].optional
            )
            if not sources and needed:
                making.skipped[name] = f"what its input {port} reads is skipped: {', '.join(use.inputs[port].sources)}"
                return
        try:
            values = resolve_step(use, known.parameters, self._values, item)
        except ParameterError as error:
            for fault in error.faults:
                making.wrong(name, ("parameters", fault.name), fault.message, fault.remedy)
            return
        if use.workflow and made:
            parameter, maker = next(iter(made.items()))
            message = f"is {maker}, which is known when that step has run, and what a workflow does is decided before"
            making.wrong(name, ("parameters", parameter), message, "give the value to the workflow's step by an input")
            return
        if use.workflow:
            inner = _Scope(making, making.workflows[use.workflow], values, name, reads, self._depth + 1)
            self._made[use.name].append(inner)
            inner.unfold()
            return
        inputs = {
            port: binding.model_copy(update={"source": reads[port][0], "also": reads[port][1:]})
            for port, binding in use.inputs.items()
            if reads[port]
        }
        plain = {**{port: escaped(value) for port, value in values.items()}, **made}
        making.uses.append(
            use.model_copy(update={"name": name, "when": when, "for_each": None, "inputs": inputs, "parameters": plain})
        )
        self._made[use.name].append(name)
