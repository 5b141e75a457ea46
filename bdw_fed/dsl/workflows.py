"""`workflow`: makes a function that calls steps a workflow, and brings it to where it runs.

The function is called once, with handles in place of data and parameters. What comes of that is a model like that of
any YAML file, judged by the same checks: `yaml()` shows it, `save()` writes a directory for `bdw-fed apply -f`,
`apply()` and `submit()` hand it to the hub.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from bdw_fed.client import Document
from bdw_fed.dsl import recording
from bdw_fed.dsl.conditions import Symbol
from bdw_fed.dsl.errors import BuildError
from bdw_fed.dsl.handles import Data
from bdw_fed.dsl.signature import parameters_of
from bdw_fed.dsl.steps import StepFunction, write
from workflow.canonical import AnyObject, canonical_yaml
from workflow.checks import check_step, check_workflow
from workflow.model import Workflow as Model

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient
    from bdw_fed.dsl.runs import Run


class Workflow:
    """A workflow that was built of a function."""

    def __init__(self, function: Callable[..., Any], fields: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self._function = function
        self._fields = fields
        self._given = given
        self.__doc__ = function.__doc__

    @property
    def name(self) -> str:
        """The function's name, with dashes, unless another was said."""
        return str(self._fields.get("name") or self._function.__name__.strip("_").replace("_", "-").lower())

    def of(self, **given: Any) -> Workflow:
        """The workflow with arguments that are known while it is built: what its function decides and loops on."""
        return Workflow(self._function, self._fields, {**self._given, **given})

    @property
    def model(self) -> Model:
        """The workflow, checked together with its steps. BuildError with all that is wrong."""
        return self._built[0]

    @property
    def steps(self) -> Mapping[str, StepFunction]:
        """The steps that it uses, by NAME@VERSION."""
        return self._built[1]

    def yaml(self) -> str:
        """Steps and workflow as YAML; the steps' code is named there, and written by `save`."""
        models: list[AnyObject] = [*(step.model for step in self.steps.values()), self.model]
        return "---\n".join(canonical_yaml(model) for model in models)

    def save(self, directory: str | Path) -> Path:
        """Write a directory for `bdw-fed apply -f`: NAME.yaml, and the code of each step below `code`."""
        place = Path(directory)
        for step in self.steps.values():
            write(step.code.files, place / "code" / step.name)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{self.name}.yaml").write_text(self.yaml())
        return place

    def documents(self) -> list[Document]:
        """What a client applies."""
        steps = [
            Document(canonical_yaml(step.model), f"{step.name} (of {self.name})", 1, step.code.archive)
            for step in self.steps.values()
        ]
        return [*steps, Document(canonical_yaml(self.model), self.name)]

    def apply(self, client: SyncClient | None = None) -> None:
        """Store steps and workflow at the hub: all or none. Raises what `Client.apply` does."""
        with _client(client) as hub:
            hub.apply(self.documents())

    def submit(self, client: SyncClient | None = None, *, run: str = "", topology: str = "", **parameters: Any) -> Run:
        """Apply, start a run, and return it. Without `client`: the hub that `bdw-fed` would ask."""
        from bdw_fed.dsl.runs import Run

        with _client(client) as hub:
            hub.apply(self.documents())
            submitted = hub.submit(self.name, parameters, name=run, topology=topology).run
        return Run(submitted.name, client)

    def __repr__(self) -> str:
        return f"<workflow {self.name}: {', '.join(use.name for use in self.model.spec.steps)}>"

    @cached_property
    def _built(self) -> tuple[Model, Mapping[str, StepFunction]]:
        inputs, arguments = self._arguments()
        with recording.building() as made:
            returned = self._function(**arguments)
        spec = {
            "parameters": {
                name: said for name, said in parameters_of(self._function).items() if name not in self._given
            },
            "inputs": inputs,
            "steps": made.uses,
            "outputs": self._outputs(returned),
            **{name: value for name, value in self._fields.items() if name not in ("name", "inputs")},
        }
        metadata = {"name": self.name}
        if doc := (self._function.__doc__ or "").strip():
            metadata["description"] = doc.splitlines()[0]
        written = {"kind": "Workflow", "metadata": metadata, "spec": {k: v for k, v in spec.items() if v}}
        model = recording.validated(Model, written, f"workflow {self.name}")
        steps = {reference: step.model for reference, step in made.steps.items()}
        problems = [problem for step in steps.values() for problem in check_step(step)]
        problems += check_workflow(model, steps, None)
        if problems := [problem for problem in problems if problem.severity == "error"]:
            raise BuildError.of(f"workflow {self.name}", problems)
        return model, made.steps

    def _arguments(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The inputs as they are written, and what the function is called with."""
        inputs: dict[str, Any] = {}
        datasets = dict(self._fields.get("inputs", {}))
        arguments: dict[str, Any] = dict(self._given)
        for name, argument in inspect.signature(self._function).parameters.items():
            if name in self._given:
                continue
            if argument.kind is inspect.Parameter.KEYWORD_ONLY:
                arguments[name] = Symbol(f"param.{name}")
                continue
            if argument.default is not inspect.Parameter.empty:
                raise BuildError(
                    f"workflow {self.name}: {name} has a default, but stands for a dataset; "
                    f'name it with @workflow(inputs={{"{name}": "NAME"}}), or write * before it to make it a parameter'
                )
            called = {"dataset": name.replace("_", "-")}
            given = datasets.pop(name, {})
            inputs[name] = {**called, **(given if isinstance(given, Mapping) else {"dataset": given})}
            arguments[name] = Data(f"inputs.{name}")
        if datasets:
            raise BuildError(
                f"workflow {self.name}: names datasets of {', '.join(datasets)}, which it has no input for"
            )
        return inputs, arguments

    def _outputs(self, returned: Any) -> dict[str, Any]:
        if isinstance(returned, Data):
            returned = {returned.reference.rpartition(".")[2]: returned}
        if not isinstance(returned, Mapping):
            raise BuildError(
                f"workflow {self.name} returns {'nothing' if returned is None else f'a {type(returned).__name__}'}; "
                'return the data that is its result: return {"words": table}'
            )
        outputs: dict[str, Any] = {}
        for name, data in returned.items():
            if not isinstance(data, Data):
                raise BuildError(f"workflow {self.name}: output {name} is not the data of one port")
            if data.words.get("merge") and data.words.get("gather", "all") != "all":
                raise BuildError(
                    f"workflow {self.name}: output {name} is one file of all units, not by {data.words['gather']}; "
                    "leave gather out of its merge"
                )
            words = {"file": data.saved_as, "merge": data.words.get("merge")}
            told = {word: value for word, value in words.items() if value}
            outputs[name] = {"from": data.reference, **told} if told else data.reference
        return outputs


@overload
def workflow(function: Callable[..., Any], /) -> Workflow: ...


@overload
def workflow(**fields: Any) -> Callable[[Callable[..., Any]], Workflow]: ...


def workflow(
    function: Callable[..., Any] | None = None, /, **fields: Any
) -> Workflow | Callable[[Callable[..., Any]], Workflow]:
    """Make a function a workflow: arguments are datasets, those after a `*` parameters, what it returns its outputs.

    `fields`: `name`; `inputs`, the datasets that are not called as their argument; and fields of the spec, such
    as `policy`.
    """
    if function is not None:
        return Workflow(function, {}, {})
    return lambda function: Workflow(function, fields, {})


def _client(client: SyncClient | None) -> AbstractContextManager[SyncClient]:
    from bdw_fed.client import SyncClient

    return SyncClient() if client is None else nullcontext(client)
