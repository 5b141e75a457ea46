"""A workflow: its uses of steps, where they may run, and how a run behaves."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from topology.errors import WrongValue
from topology.model import Disconnect, TaintEffect, Tier
from topology.schema import Duration, Identifier, Labels, Many, Metadata, Model, Name, Size, Takes
from workflow.model.edges import Binding, WorkflowInput, WorkflowOutput
from workflow.model.names import LARGEST_INTEGER, HookUse, ParameterValue, Use, WholeParameter
from workflow.model.step import Caching, CachingPolicy, Limits, Parameter, Pool, Resources, Retry, Timeout


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

    start: int = Field(default=1, alias="from", ge=-LARGEST_INTEGER, lt=LARGEST_INTEGER)
    to: int = Field(ge=-LARGEST_INTEGER, lt=LARGEST_INTEGER)
    step: int = Field(default=1, ge=-LARGEST_INTEGER, lt=LARGEST_INTEGER)

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

    What it says on timeout, retry, resources, pool and cache lies over the step's own words.
    """

    name: Name
    use: Use
    when: str | None = Field(default=None, min_length=1)  # on parameters, items and what steps make
    for_each: dict[Identifier, Repeated] | None = Field(default=None, min_length=1)  # once for each combination
    inputs: dict[Identifier, Binding] = Field(default_factory=dict, alias="in")
    parameters: dict[Identifier, ParameterValue] = Field(default_factory=dict)
    place: Place = Place()
    timeout: Limits = Timeout()
    retry: Retry = Retry()
    on_failure: Literal["fail", "skip", "continue"] = "fail"  # what a task does to the run that has no attempts left
    resources: Resources = Resources()
    pool: Pool = Pool()
    cache: CachingPolicy = Caching()
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
    retain_outputs: Duration = 0.0  # outputs are kept for so long after the run's end; 0 = as long as the run
    quota: Size = 0  # bytes of the run's units that may lie stored on a cluster at once; 0 = not limited
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
