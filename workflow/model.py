"""Steps and workflows as their authors write them.

The loader builds these models from documents, `workflow.checks` judges them together, `workflow.canonical` gives the
form that is stored, and the planner compiles a workflow with its steps into the graph of a run. Sizes are bytes,
durations seconds. Names follow the file, but where Python has the word for itself `in` is `inputs`, `from` is `source`,
and `as` is `form`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from topology.errors import WrongValue
from topology.model import Disconnect, TaintEffect, Tier
from topology.schema import Cpus, Duration, Identifier, Labels, Many, Metadata, Model, Name, Size, Takes
from workflow.formats import HEADED, TEXTUAL, MergeFormat, SplitFormat
from workflow.keys import parse as parse_keys

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]
ParameterType = Literal["string", "integer", "number", "boolean", "array"]
Pairing = Literal[
    "each", "same_cluster", "gather_all", "gather_each", "gather_tree", "group", "broadcast", "cross", "zip"
]
Form = Literal["path", "bytes", "text", "json"]
Kind = Literal["python", "command", "service", "directory"]

KINDS: tuple[Kind, ...] = get_args(Kind)
_FIELDS_OF: Mapping[Kind, tuple[str, ...]] = {
    "service": ("slots", "protocol", "warm_up", "health"),
    "directory": ("arguments", "code", "poll", "settle", "done"),
}

_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_REFERENCE = re.compile(r"([a-z0-9][a-z0-9-]{0,62})\.([A-Za-z_][A-Za-z0-9_]{0,62})")
_USE = re.compile(
    r"([a-z0-9][a-z0-9-]{0,62})@([A-Za-z0-9][A-Za-z0-9._-]{0,62})|workflow/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
_STEP_USE = re.compile(r"([a-z0-9][a-z0-9-]{0,62})@([A-Za-z0-9][A-Za-z0-9._-]{0,62})")
_WHOLE_PARAMETER = re.compile(r"param\.([A-Za-z_][A-Za-z0-9_]{0,62})")
_FUNCTION = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_FORMAT = re.compile(r"(?=.{1,32}$)[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")
_MISHAP = re.compile(r"exit(:[0-9]{1,3})?|exception|timeout|memory|disk|output|start|lost|data")
_SECRET = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,253}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LARGEST_INTEGER = 2**63
_GATHERING: Mapping[str, Pairing] = {"all": "gather_all", "each-cluster": "gather_each", "tree": "gather_tree"}
_SUFFIXES: Mapping[Form, str] = {"json": "json", "text": "txt"}


def plain_value(value: object) -> object:
    """A parameter's value, lists as tuples. Raises `WrongValue` for what can't be one."""
    if isinstance(value, list | tuple):
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: object) -> object:
    if not isinstance(value, Scalar):
        raise WrongValue(
            "a parameter's value is text, a number, true, false or a list of these", "put anything larger into a file"
        )
    if isinstance(value, float) and not isfinite(value):
        raise WrongValue(f"{value} is not a number that can be stored", "write a finite number")
    if isinstance(value, int) and not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        raise WrongValue("the number does not fit into 64 bits", "write it as text, in quotes")
    return value


def _matching(pattern: re.Pattern[str], takes: Takes) -> AfterValidator:
    def match(value: str) -> str:
        if pattern.fullmatch(value):
            return value
        raise WrongValue(f"{value[:80]!r} is not {takes.words}", f"write it like {takes.example}")

    return AfterValidator(match)


def _file_name(value: str) -> str:
    if value in {"", ".", ".."} or len(value.encode()) > 255 or any(c in value for c in "/\\\0"):
        raise WrongValue(f"{value[:60]!r} is not a file name", "write a name without folders, for example report.csv")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise WrongValue(f"{value[:60]!r} is not an absolute path", "write it from the root on, for example /opt/code")
    return value


_A_VERSION = Takes("a version", '"1"')
_A_PORT = Takes("a port of a step, STEP.PORT, or an input, inputs.NAME", "inputs.NAME")
_A_USE = Takes("a step and its version, or a workflow", "clean-flights@1")
_A_STEP_USE = Takes("a step and its version", "notify@1")
_A_PARAMETER = Takes("a parameter of the workflow", "param.NAME")
_A_FUNCTION = Takes("a Python function", "module:function")
_A_FORMAT = Takes("a format", "csv")
_A_MISHAP = Takes(
    "a kind of failure (exit, exit:CODE, exception, timeout, memory, disk, output, start, lost or data)", "exit:75"
)
_A_SECRET = Takes("the key of a secret", "password")
_A_VARIABLE = Takes("a variable's name", "MY_NAME")

ParameterValue = Annotated[Value, BeforeValidator(plain_value), Takes("a value", "1")]
Version = Annotated[str, _matching(_VERSION, _A_VERSION), _A_VERSION]
Reference = Annotated[str, _matching(_REFERENCE, _A_PORT), _A_PORT]
Use = Annotated[str, _matching(_USE, _A_USE), _A_USE]
WholeParameter = Annotated[str, _matching(_WHOLE_PARAMETER, _A_PARAMETER), _A_PARAMETER]
HookUse = Annotated[str, _matching(_STEP_USE, _A_STEP_USE), _A_STEP_USE]
Function = Annotated[str, _matching(_FUNCTION, _A_FUNCTION), _A_FUNCTION]
Format = Annotated[str, _matching(_FORMAT, _A_FORMAT), _A_FORMAT]
Mishap = Annotated[str, _matching(_MISHAP, _A_MISHAP), _A_MISHAP]
SecretName = Annotated[str, _matching(_SECRET, _A_SECRET), _A_SECRET]
Variable = Annotated[str, _matching(_VARIABLE, _A_VARIABLE), _A_VARIABLE]
AbsolutePath = Annotated[str, AfterValidator(_absolute), Takes("an absolute path", "/opt/code")]
FileName = Annotated[str, AfterValidator(_file_name), Takes("a file name", "report.csv")]


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


class WorkflowInput(Model):
    """Data that a run starts from: a dataset of the topology. Without one, the workflow that uses this one gives it."""

    dataset: Name | None = None


class Split(Model):
    """How the units of an edge are cut between records: by exactly one of bytes, lines or records a part, a number of
    parts, or what there is one part for."""

    size: Size | None = None
    lines: int | None = Field(default=None, ge=1, le=10**12)
    records: int | None = Field(default=None, ge=1, le=10**12)
    count: int | None = Field(default=None, ge=1, le=1_000_000)
    per: Literal["slot", "member"] | None = None
    format: SplitFormat | None = None  # None: as the port or the file's name says
    header: bool = False  # the first record stands at the head of each part

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        measures = (self.size, self.lines, self.records, self.count, self.per)
        if sum(measure is not None for measure in measures) != 1:
            raise WrongValue(
                "a split is by exactly one of size, lines, records, count and per",
                "write for example split: {size: 4MiB}",
            )
        if self.size == 0:
            raise WrongValue("a part has no size", "write for example size: 4MiB", ("size",))
        return self

    @model_validator(mode="after")
    def _fits_the_format(self) -> Self:
        form = "tar" if self.per == "member" else self.format
        if self.per == "member" and self.format not in (None, "tar"):
            raise WrongValue(
                f"{self.format} has no members", "only a tar has: leave out format, or per: member", ("format",)
            )
        if self.lines is not None and form is not None and form not in TEXTUAL:
            raise WrongValue(f"{form} has no lines", "write records, size or count in their place", ("lines",))
        if self.records is not None and form == "bytes":
            raise WrongValue("bytes have no records", "write size or count in their place", ("records",))
        if self.header and form is not None and form not in HEADED:
            raise WrongValue(f"{form} has no line that is a header", "leave out header", ("header",))
        return self


class Batch(Model):
    """How many units a task takes: up to `count`, up to so many bytes, or what is there after `wait`."""

    count: int | None = Field(default=None, ge=1, le=10_000)
    size: Size | None = None
    wait: Duration = 5.0

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.count is None and self.size is None:
            raise WrongValue("a batch is bounded by count, by size or by both", "write for example batch: {count: 100}")
        if self.size == 0:
            raise WrongValue("a batch has no size", "write for example size: 64MiB", ("size",))
        return self


def _keys(value: str) -> str:
    parse_keys(value)
    return value


class Group(Model):
    """Which units make a task together: those of one key, see `workflow.keys`."""

    by: Annotated[str, AfterValidator(_keys), Takes("key or a pattern with {key}", "key")]


class Binding(Model):
    """What an input port reads. Written `STEP.PORT`, or `{from: STEP.PORT, …}` with how units are cut or paired."""

    source: Reference = Field(alias="from")
    also: Many[Reference] = ()  # further ports, whose units come in as well
    split: Split | None = None
    batch: Batch | None = None  # each task takes several units
    group: Group | None = None  # each task takes all units with the same key
    gather: Literal["all", "each-cluster", "tree"] | None = None  # one task, or one a cluster, takes all units
    merge: MergeFormat | None = None  # gathered: as one file
    same: Literal["cluster"] | None = None  # each task takes all units of its own unit's origin cluster
    zip: Literal[True] | None = None  # each task takes one unit of each such port, of the same lineage
    cross: Literal[True] | None = None  # each of its units makes a task with each driving unit
    broadcast: Literal[True] | None = None  # each task takes all units, which are copied to where there are tasks

    @property
    def source_step(self) -> str:
        """The name before the dot; `inputs` for an input of the workflow."""
        return self.source.rpartition(".")[0]

    @property
    def source_port(self) -> str:
        """The name after the dot: a port of the step, or the input's name."""
        return self.source.rpartition(".")[2]

    @property
    def sources(self) -> tuple[str, ...]:
        """All that it reads."""
        return (self.source, *self.also)

    @property
    def pairing(self) -> Pairing:
        if self.broadcast:
            return "broadcast"
        if self.cross:
            return "cross"
        if self.zip:
            return "zip"
        if self.group:
            return "group"
        if self.gather:
            return _GATHERING[self.gather]
        return "same_cluster" if self.same else "each"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"from": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> object:
        return _shortened(written(self))


class WorkflowOutput(Model):
    """A result: the units of a step's port. Written `STEP.PORT`, or `{from: STEP.PORT, file: NAME, merge: FORMAT}`."""

    source: Reference = Field(alias="from")
    also: Many[Reference] = ()  # further ports, whose units belong to it as well
    file: FileName | None = None
    merge: MergeFormat | None = None  # all units as one file

    @property
    def source_step(self) -> str:
        return self.source.rpartition(".")[0]

    @property
    def source_port(self) -> str:
        return self.source.rpartition(".")[2]

    @property
    def sources(self) -> tuple[str, ...]:
        """All that belongs to it."""
        return (self.source, *self.also)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"from": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> object:
        return _shortened(written(self))


def _shortened(written: object) -> object:
    if isinstance(written, dict) and "from" in written and all(v is None for k, v in written.items() if k != "from"):
        return written["from"]
    return written


class Toleration(Model):
    """A taint that a step may run beside: that key, and value and effect if they are given."""

    key: str = Field(min_length=1)
    value: str | None = None
    effect: TaintEffect | None = None
    seconds: Duration | None = None  # of NoExecute: stay so long once it is there; None = for ever


class Place(Model):
    """Where a step may run, of which clusters every condition must hold, and which of these a unit goes to."""

    tier: Tier | None = None
    clusters: Many[Name] | None = None
    zones: Many[Name] | None = None
    labels: Labels | None = None  # of the cluster
    tolerate: Many[Toleration] = ()
    stay: bool = False  # a unit is executed on the cluster whose data it stems from
    prefer: Literal["finish", "distance", "spread"] = "finish"


class Sequence(Model):
    """Whole numbers: from, from + step, … and never beyond `to`."""

    start: int = Field(default=1, alias="from", ge=-_LARGEST_INTEGER, lt=_LARGEST_INTEGER)
    to: int = Field(ge=-_LARGEST_INTEGER, lt=_LARGEST_INTEGER)
    step: int = Field(default=1, ge=-_LARGEST_INTEGER, lt=_LARGEST_INTEGER)

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.step == 0:
            raise WrongValue("a sequence with step 0 never ends", "write step: 1", ("step",))
        return self


class Items(Model):
    """What a use is repeated for: a list, a parameter that is one (`from`), or a sequence of whole numbers."""

    values: Many[ParameterValue] | None = None
    source: WholeParameter | None = Field(default=None, alias="from")
    sequence: Sequence | None = None

    @property
    def parameter(self) -> str:
        """The name of the workflow's parameter; empty: none."""
        return (self.source or "").partition(".")[2]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"values": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(each is not None for each in (self.values, self.source, self.sequence)) != 1:
            raise WrongValue(
                "items are exactly one of a list, a parameter and a sequence",
                "write [a, b], {from: param.NAME} or {sequence: {from: 1, to: 10}}",
            )
        return self

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> object:
        plain = written(self)
        return plain["values"] if isinstance(plain, dict) and self.values is not None else plain


Repeated = Annotated[Items, Takes("a list, {from: param.NAME} or {sequence: …}", "[a, b]")]


class StepUse(Model):
    """A step in a workflow, or a workflow used as one (`workflow/NAME`).

    What it says on timeout, retry, resources and pool lies over the step's own words.
    """

    name: Name
    use: Use
    when: str | None = Field(default=None, min_length=1)  # a condition on parameters and items; else it is skipped
    for_each: dict[Identifier, Repeated] | None = Field(default=None, min_length=1)  # once for each combination
    inputs: dict[Identifier, Binding] = Field(default_factory=dict, alias="in")
    parameters: dict[Identifier, ParameterValue] = Field(default_factory=dict)
    place: Place = Place()
    timeout: Limits = Timeout()
    retry: Retry = Retry()
    on_failure: Literal["fail", "skip", "continue"] = "fail"  # what a task does to the run that has no attempts left
    resources: Resources = Resources()
    pool: Pool = Pool()
    preemptible: bool = False  # its tasks may be stopped, and tried again, when a reserved slot is wanted back

    @property
    def workflow(self) -> str:
        """The name of the workflow that is used as a step; empty: it is a step."""
        return self.use.partition("/")[2]


class Policy(Model):
    """How a run behaves as a whole."""

    reserve: Literal["none", "hold", "lend"] = "none"  # whether its plan's slots are reserved before it starts
    timeout: Duration = 0.0  # the run may go on for so long, not counting while it is suspended; 0 = not limited
    priority: int = Field(default=0, ge=-1000, le=1000)  # tasks of runs with more are given to nodes first
    retain: Duration = 0.0  # what has not succeeded keeps its data for so long, to be tried again
    disconnect: Disconnect = Disconnect()
    durability: Literal["process", "power"] = "process"

    @model_validator(mode="after")
    def _replaces_or_reserves(self) -> Self:
        if self.reserve != "none" and self.disconnect.replace:
            raise WrongValue(
                f"a run with reserve: {self.reserve} can't replace a cluster: its slots are reserved once",
                "write reserve: none, or leave out disconnect.replace",
            )
        return self


class Hook(Model):
    """A step that is executed after a run has ended; it reads no data. `{run.NAME}` in parameters is of that run."""

    use: HookUse
    parameters: dict[Identifier, ParameterValue] = Field(default_factory=dict)
    place: Place = Place()
    timeout: Limits = Timeout()
    retry: Retry = Retry()
    resources: Resources = Resources()


class Hooks(Model):
    """What is executed after a run has ended: however it did, when it has succeeded, when it has failed."""

    exit: Hook | None = None
    success: Hook | None = None
    failure: Hook | None = None


class WorkflowSpec(Model):
    """What a workflow says; see `docs/reference/workflow.md`."""

    parameters: dict[Identifier, Parameter] = Field(default_factory=dict)
    inputs: dict[Identifier, WorkflowInput] = Field(default_factory=dict)
    steps: Many[StepUse] = Field(min_length=1)
    policy: Policy = Policy()
    hooks: Hooks = Hooks()
    outputs: dict[Identifier, WorkflowOutput] = Field(default_factory=dict)


class Workflow(Model):
    """A workflow as applied."""

    kind: Literal["Workflow"] = "Workflow"
    metadata: Metadata
    spec: WorkflowSpec
