"""What flows into a step and out of a workflow: which units, how they are cut, and how they are paired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from topology.errors import WrongValue
from topology.schema import Duration, Many, Model, Name, Size, Takes
from workflow.formats import HEADED, TEXTUAL, MergeFormat, SplitFormat
from workflow.keys import parse as parse_keys
from workflow.model.names import FileName, Reference

Pairing = Literal[
    "each", "same_cluster", "gather_all", "gather_each", "gather_tree", "group", "broadcast", "cross", "zip"
]

Store = Literal["auto", "memory", "disk", "shared"]
"""Where units lie: as the node sees fit, or, while there is room, in memory; on its disk; in what nodes share too."""

_GATHERING: Mapping[str, Pairing] = {"all": "gather_all", "each-cluster": "gather_each", "tree": "gather_tree"}


class WorkflowInput(Model):
    """Data that a run starts from: a dataset of the topology. Without one, the workflow that uses this one gives it."""

    dataset: Name | None = None
    format: Literal["directory"] | None = None  # each part of it is a directory, and one unit; None: files


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
    store: Store | None = None  # where what it reads lies until it is read; None: auto

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
    """A result: the units of a step's port. Written `STEP.PORT`, or `{from: STEP.PORT, file: NAME, …}`."""

    source: Reference = Field(alias="from")
    also: Many[Reference] = ()  # further ports, whose units belong to it as well
    file: FileName | None = None
    merge: MergeFormat | None = None  # all units as one file
    store: Literal["disk", "shared"] | None = None  # where it lies after the run's end; None: disk
    retain: Duration | None = None  # after the run's end; 0 = as long as the run; None: as the policy says

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
