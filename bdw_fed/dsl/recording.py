"""While a workflow's function is called: which steps it uses, on what, and with which parameters.

There is at most one workflow under way in a thread or task of a program; a step that is called meanwhile is noted as a
use, and gives handles of its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from bdw_fed.dsl.conditions import Items, Symbol, both
from bdw_fed.dsl.errors import BuildError
from bdw_fed.dsl.handles import Data, Outputs
from topology.problems import Positions
from workflow.documents import words
from workflow.graph import INPUTS
from workflow.model import Step, Workflow

if TYPE_CHECKING:
    from bdw_fed.dsl.steps import StepFunction

M = TypeVar("M", Step, Workflow)
_UNDER_WAY: ContextVar[Building | None] = ContextVar("building", default=None)


class Building:
    """A workflow that is being built: the uses of its steps as YAML has them, and the steps by reference."""

    def __init__(self) -> None:
        self._when = ""
        self._items: Items = {}
        self.uses: list[dict[str, Any]] = []
        self.steps: dict[str, StepFunction] = {}

    @contextmanager
    def within(self, when: str, items: Items) -> Iterator[None]:
        """Uses in the block have this condition, and are repeated for these items, beside those around it."""
        before = self._when, self._items
        if again := items.keys() & self._items.keys():
            raise BuildError(f"{', '.join(sorted(again))} is repeated within a loop over it; give it another name")
        self._when, self._items = both(self._when, when), {**self._items, **items}
        try:
            yield
        finally:
            self._when, self._items = before

    def use(self, step: StepFunction, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Data | Outputs:
        """Note that the step is used so; what it hands on. BuildError where it is not called as it is written."""
        name = self._name_of(step)
        model = step.model
        ports = list(model.spec.inputs)
        if len(args) > len(ports):
            raise BuildError(f"{name}: {len(args)} inputs are given, but the step has {len(ports)}")
        given: dict[str, Any] = dict(zip(ports, args, strict=False))
        for key, value in kwargs.items():
            if key in given:
                raise BuildError(f"{name}: {key} is given twice")
            given[key] = value
        inputs, parameters = {}, {}
        for key, value in given.items():
            if key in model.spec.inputs:
                if value is None and model.spec.inputs[key].optional:
                    continue
                inputs[key] = _binding(name, key, value)
            elif key in model.spec.parameters:
                parameters[key] = _value(name, key, value)
            else:
                known = ", ".join([*model.spec.inputs, *model.spec.parameters]) or "none"
                raise BuildError(f"{name}: the step has no input or parameter {key}; it has: {known}")
        use = {"name": name, "use": model.reference, "in": inputs, "parameters": parameters, **step.used}
        use |= {"when": both(self._when, step.used.get("when", "")), "for_each": dict(self._items)}
        self.uses.append({key: value for key, value in use.items() if value not in ({}, "", None)})
        self.steps[model.reference] = step
        data = {port: Data(f"{name}.{port}") for port in model.spec.outputs}
        return next(iter(data.values())) if len(data) == 1 else Outputs(name, data)

    def _name_of(self, step: StepFunction) -> str:
        """The name of the use that is said, else the step's, with a number from the second on.

        No dash before the number: so are those called that a loop makes of one use.
        """
        taken = {use["name"] for use in self.uses}
        if said := step.used.get("name"):
            if said in taken:
                raise BuildError(f"two uses of steps are called {said}; give each a name of its own")
            return str(said)
        names = (step.name if number == 1 else f"{step.name}{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)


def current() -> Building | None:
    """The workflow that is being built here and now, if one is."""
    return _UNDER_WAY.get()


@contextmanager
def building() -> Iterator[Building]:
    """Note what is used until the end of the block."""
    if _UNDER_WAY.get() is not None:
        raise BuildError("a workflow can't be built within another one's function; call its steps instead")
    token = _UNDER_WAY.set(made := Building())
    try:
        yield made
    finally:
        _UNDER_WAY.reset(token)


def validated(kind: type[M], value: Mapping[str, Any], name: str) -> M:
    """The model of what YAML would say. BuildError with all that is wrong with it."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise BuildError.of(name, words.problems(error, kind, Positions(), {})) from error


def _binding(use: str, port: str, value: Any) -> Any:
    if not isinstance(value, Data):
        raise BuildError(
            f"{use}: input {port} is given {_described(value)}, but takes data: an output of a step, or an input of "
            "the workflow; write * before it in the step to make it a parameter"
        )
    return {"from": value.reference, **value.words} if value.words else value.reference


def _value(use: str, name: str, value: Any) -> Any:
    if isinstance(value, Data) and not value.words and not value.reference.startswith(f"{INPUTS}."):
        return f"{{{value.reference}}}"  # the value that the step makes
    if isinstance(value, Data | Outputs):
        raise BuildError(
            f"{use}: parameter {name} is given data, and takes one value, such as a step returns; "
            "make it an input of the step to hand it data"
        )
    if isinstance(value, Symbol):
        return str(value)
    if isinstance(value, list | tuple):
        return [_value(use, name, item) for item in value]
    if isinstance(value, str | int | float | bool):
        return value
    raise BuildError(f"{use}: parameter {name} is given {_described(value)}; put anything that large into a file")


def _described(value: Any) -> str:
    return f"the value {value.text}" if isinstance(value, Symbol) else f"a {type(value).__name__}"
