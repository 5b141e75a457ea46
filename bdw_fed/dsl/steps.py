"""`step`: makes a function a step that workflows use by calling it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from bdw_fed.dsl import recording
from bdw_fed.dsl.errors import BuildError
from bdw_fed.dsl.signature import inputs_of, outputs_of, parameters_of
from bdw_fed.dsl.source import Extracted
from wire.digests import bytes_digest
from workflow.bundle import pack
from workflow.canonical import canonical_json
from workflow.model import Step as Model

_DIGITS = 12  # of the digest that is the version of a step without one


@dataclass(frozen=True)
class Code:
    """A step's code: files by name, packed as they will be applied, and the function in it."""

    files: Mapping[str, str]
    archive: bytes
    function: str


@dataclass(frozen=True)
class StepFunction:
    """A function that is a step. Call it in a workflow to use it there, elsewhere to execute it as it is."""

    function: Callable[..., Any]
    version: str | None = None
    output: str | None = None
    files: Mapping[str, str | None] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the step's spec
    run: Mapping[str, Any] = field(default_factory=dict)  # of spec.run
    used: Mapping[str, Any] = field(default_factory=dict)  # of the use in a workflow

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        building = recording.current()
        return self.function(*args, **kwargs) if building is None else building.use(self, args, kwargs)

    @property
    def name(self) -> str:
        """The step's name: the function's, with dashes."""
        return self.function.__name__.strip("_").replace("_", "-").lower()

    def at(self, **place: Any) -> StepFunction:
        """The step where `place` says: `tier="edge"`, `clusters=["cloud"]`, `prefer="distance"`, …"""
        return self.using(place=place)

    def using(self, **words: Any) -> StepFunction:
        """With fields of a use of a step, under the names that they have in YAML: `name`, `timeout`, `retry`, …"""
        return replace(self, used={**self.used, **words})

    @cached_property
    def code(self) -> Code:
        """What the step executes."""
        extracted = Extracted(self.function)
        with tempfile.TemporaryDirectory() as place:
            write(extracted.files, Path(place))
            archive = pack(Path(place))
        return Code(extracted.files, archive, f"{extracted.module}:{self.function.__name__}")

    @cached_property
    def model(self) -> Model:
        """The step's definition. BuildError where the function can't be one."""
        spec = {
            "run": {"python": self.code.function, "bundle": f"./code/{self.name}", **self.run},
            "parameters": parameters_of(self.function),
            "inputs": inputs_of(self.function),
            "outputs": outputs_of(self.function, self.output, self.files),
            **self.fields,
        }
        spec = {name: value for name, value in spec.items() if value}
        metadata = {"name": self.name, "version": self.version or "0"}
        if doc := (self.function.__doc__ or "").strip():
            metadata["description"] = doc.splitlines()[0]
        model = recording.validated(Model, {"kind": "Step", "metadata": metadata, "spec": spec}, self.name)
        if self.version is None:
            digest = bytes_digest(canonical_json(model).encode() + self.code.archive).hex()[:_DIGITS]
            model = recording.validated(
                Model, {"kind": "Step", "metadata": {**metadata, "version": digest}, "spec": spec}, self.name
            )
        return model


@overload
def step(function: Callable[..., Any], /) -> StepFunction: ...


@overload
def step(
    *,
    version: str | None = None,
    output: str | None = None,
    files: Mapping[str, str | None] | None = None,
    image: str | None = None,
    env: Mapping[str, str] | None = None,
    **fields: Any,
) -> Callable[[Callable[..., Any]], StepFunction]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    version: str | None = None,
    output: str | None = None,
    files: Mapping[str, str | None] | None = None,
    image: str | None = None,
    env: Mapping[str, str] | None = None,
    **fields: Any,
) -> StepFunction | Callable[[Callable[..., Any]], StepFunction]:
    """Make a function a step; see `bdw_fed.dsl.signature` for what becomes of its arguments.

    `version`: by default one that is made of the code, so that changed code is another version. `output`: the name of
    what is returned ("result"). `files`: outputs that are written to `out[NAME]`, with their format or None. `image`,
    `env` as in the step's `run`; other fields (`resources`, `pool`, `timeout`, `retry`, `cache`) as in its `spec`.
    """
    run = {name: value for name, value in (("image", image), ("env", dict(env) if env else None)) if value}

    def made(function: Callable[..., Any]) -> StepFunction:
        if isinstance(function, StepFunction):
            raise BuildError(f"{function.name} is a step already")
        return StepFunction(function, version, output, dict(files or {}), fields, run)

    return made if function is None else made(function)


def write(files: Mapping[str, str], place: Path) -> None:
    """The code as files in a directory."""
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
