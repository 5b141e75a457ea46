"""A step: how its code is started, what it takes and gives, what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from topology.errors import WrongValue
from topology.schema import Cpus, Duration, Identifier, Many, Metadata, Model, Name, Size, Takes
from workflow.model.names import (
    AbsolutePath,
    Format,
    Function,
    Mishap,
    ParameterType,
    ParameterValue,
    SecretName,
    Variable,
    Version,
)

Form = Literal["path", "bytes", "text", "json"]
Kind = Literal["python", "command", "service", "directory"]

KINDS: tuple[Kind, ...] = get_args(Kind)
_FIELDS_OF: Mapping[Kind, tuple[str, ...]] = {
    "service": ("slots", "protocol", "warm_up", "health"),
    "directory": ("arguments", "code", "poll", "settle", "done"),
}
_SUFFIXES: Mapping[Form, str] = {"json": "json", "text": "txt"}


class Parameter(Model):
    """A parameter that a step or a workflow takes. Without a default it must be given."""

    type: ParameterType
    default: ParameterValue | None = None
    enum: Many[ParameterValue] | None = None
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""


class InputPort(Model):
    """What a step reads. `optional`: a workflow may leave it unconnected."""

    format: Format | None = None  # None: anything fits
    form: Form = Field(default="path", alias="as")  # how a function is given it
    optional: bool = False
    description: str = ""


class OutputPort(Model):
    """What a step writes. `optional`: a task may leave it out."""

    format: Format | None = None
    form: Form = Field(default="path", alias="as")  # path: the function writes a file; else it returns the value
    optional: bool = False
    description: str = ""

    @property
    def written(self) -> str | None:
        """The format of what is written; None: not known."""
        return self.format or _SUFFIXES.get(self.form)


class Resources(Model):
    """What one worker gets. 0 = not limited."""

    cpus: Cpus = 1.0
    memory: Size = 0
    disk: Size = 0


class Pool(Model):
    """How many workers one cluster keeps for the step."""

    min: int = Field(default=0, ge=0, le=10_000)  # warm while a run needs the step
    max: int = Field(default=0, ge=0, le=10_000)  # 0 = as many as fit
    idle: Duration = 60.0  # then an idle worker is stopped
    step: int = Field(default=0, ge=0, le=10_000)  # most started within `pause`; 0 = as many as are wanted
    pause: Duration = 0.0  # 0 = the time that a worker takes to start


class Retry(Model):
    """How often a task is tried, and what is waited in between: backoff, backoff·factor, … but never more than max."""

    attempts: int = Field(default=3, ge=1, le=1000)
    backoff: Duration = 1.0
    factor: float = Field(default=2.0, ge=1, le=100)
    max: Duration = 60.0
    jitter: float = Field(default=0.0, ge=0, le=1)  # each wait is shorter by up to this part of it
    on: Many[Mishap] | None = None  # of what the step does wrong, only this is tried again
    not_on: Many[Mishap] = ()  # this is not, whoever did it


class Timeout(Model):
    """How long things may take; 0 = not limited. Written as a duration alone it is `run`."""

    queue: Duration = 0.0  # tasks wait, and none of the step was given to a node
    start: Duration = 0.0  # a node has a task with all its inputs, and no worker has taken it
    run: Duration = 0.0  # one attempt

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return value if isinstance(value, Mapping | Model) else {"run": value}

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> object:
        plain = written(self)
        return plain["run"] if isinstance(plain, dict) and plain.keys() == {"run"} else plain


Limits = Annotated[Timeout, Takes("a duration, or {queue, start, run}", "10m")]


class Caching(Model):
    """Whether a task's result is kept, and taken for that of another task with the same step, parameters and inputs.

    Written as true or false alone it is `enabled`; whoever says anything of it enables it.
    """

    enabled: bool = False
    age: Duration = 0.0  # since it was executed that a result is taken; 0 = not limited
    key: str = ""  # what the result depends on besides: another key, other results

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return {"enabled": True, **value} if value else value
        return value if isinstance(value, Model) else {"enabled": value}

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> object:
        plain = written(self)
        return plain["enabled"] if isinstance(plain, dict) and plain.keys() == {"enabled"} else plain


CachingPolicy = Annotated[Caching, Takes("true, false or {age, key}", "{age: 7d}")]


class SecretKey(Model):
    """A secret that each cluster's operator keeps: its name, and which of its keys."""

    name: Name
    key: SecretName


class Execution(Model):
    """How a step's code is started: exactly one of `python`, `command`, `service` and `directory`.

    `service` and `directory` are programs that stay: one is spoken to, the other watches a directory.
    """

    python: Function | None = None
    command: Many[str] | None = None
    service: Many[str] | None = None
    directory: Many[str] | None = None
    bundle: str | None = Field(default=None, min_length=1)  # a directory, relative to the file that names it
    image: str | None = Field(default=None, min_length=1)
    user: Literal["root"] | None = None  # of the command in its pod; else one without rights
    env: dict[Variable, str] = Field(default_factory=dict)
    # of a service
    slots: int = Field(default=1, ge=1, le=1000)  # tasks that a process takes at a time
    protocol: Literal["json", "proto"] = "json"
    warm_up: Duration = 60.0  # until it is ready
    health: Duration = 10.0  # of silence, after which it is asked whether it is well; 0 = never
    # of a directory
    arguments: Many[str] = ()  # behind the queues, with {param.NAME}
    code: AbsolutePath | None = None  # a directory of the image; else the bundle's
    poll: Duration = 0.1  # between two looks at the directory
    settle: Duration = 0.0  # nothing has changed for so long when a task is done; 0 = two polls
    done: Literal["left", "written"] = "left"  # once the file has left /work, or once there is something in /out

    @property
    def kind(self) -> Kind:
        """Which of the kinds it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def words(self) -> tuple[str, ...]:
        """The program that is started; of a Python step none."""
        return self.command or self.service or self.directory or ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise WrongValue(
                f"a step is run in one way, not by {' and '.join(kinds)}"
                if kinds
                else "nothing says how the step is run",
                'write run: {python: "module:function"} or run: {command: [program, argument]};'
                " or service or directory in place of command",
            )
        [kind] = kinds
        if kind != "python" and not (self.words and self.words[0]):
            raise WrongValue(f"the {kind} is empty", "name the program to start", (kind,))
        for owner, fields in _FIELDS_OF.items():
            for field in fields:
                if owner != kind and field in self.model_fields_set:
                    raise WrongValue(f"{field} is of a {owner}, and this is a {kind}", f"leave {field} out", (field,))
        if self.user and not (self.command and self.image):
            raise WrongValue(
                "only a command in an image of its own can be root",
                "leave user out, or say command and image",
                ("user",),
            )
        if kind == "directory" and not self.poll:
            raise WrongValue("0 is no time between two looks", "write for example poll: 100ms", ("poll",))
        if self.code is not None and self.bundle is not None:
            raise WrongValue("the code is in the image, and in the bundle", "keep one of code and bundle", ("code",))
        return self


class StepSpec(Model):
    """What a step's definition says; see `docs/reference/step.md`."""

    run: Execution
    parameters: dict[Identifier, Parameter] = Field(default_factory=dict)
    inputs: dict[Identifier, InputPort] = Field(default_factory=dict)
    outputs: dict[Identifier, OutputPort] = Field(default_factory=dict)
    resources: Resources = Resources()
    pool: Pool = Pool()
    secrets: dict[Identifier, SecretKey] = Field(default_factory=dict)
    timeout: Limits = Timeout()
    retry: Retry = Retry()
    cache: CachingPolicy = Caching()


class StepMetadata(Metadata):
    """Who a step is: a version, once used, keeps its meaning."""

    version: Version


class Step(Model):
    """A step's definition as applied."""

    kind: Literal["Step"] = "Step"
    metadata: StepMetadata
    spec: StepSpec

    @property
    def reference(self) -> str:
        """`name@version`, as workflows name it and as it is stored."""
        return f"{self.metadata.name}@{self.metadata.version}"
