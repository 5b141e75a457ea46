"""The steps of a run that no author has written: what opens a dataset, cuts units, puts them together, saves a result.

They are steps like any other, so that one rule counts and closes them all; nodes and coordinators execute them
themselves. `compile` says where they stand in the graph.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import model_pb2 as m
from topology.model import Topology
from workflow import graph
from workflow.formats import DIRECTORY, MergeFormat
from workflow.model import Binding, Split, WorkflowInput, WorkflowOutput

Producers = tuple[tuple[str, str], ...]  # steps and their ports

_RETRY: Final = m.Retry(attempts=3, backoff=1.0, factor=2.0, max_backoff=60.0)


def source(name: str, given: WorkflowInput, topology: Topology) -> m.Step:
    """Makes units of each part of a dataset: of each file, or one of a directory."""
    declared = next(each for each in topology.spec.datasets if each.name == given.dataset)
    suffixes = {part.path.rpartition("/")[2].partition(".")[2] for part in (*declared.parts, *declared.replicas)}
    return m.Step(
        name=f"inputs.{name}",
        execution=m.Execution(source=m.Execution.Source(directory=given.format == DIRECTORY)),
        outputs=[m.OutputPort(name="out", format=given.format or (suffixes.pop() if len(suffixes) == 1 else ""))],
        parameters_json="{}",
        retry=_RETRY,
        pinned=True,
    )


def split(step: str, port: str, binding: Binding, told: Split, wanted: str) -> m.Step:
    """Cuts the units of an edge, whose reader takes the format `wanted`."""
    unpacks = told.per == "member"
    cut = m.Split(
        size=told.size or 0,
        lines=told.lines or 0,
        count=told.count or 0,
        records=told.records or 0,
        header=told.header,
        per_slot=told.per == "slot",
        members=unpacks,
        format="tar" if unpacks else told.format or "",
    )
    return m.Step(
        name=f"{step}.{port}.split",
        execution=m.Execution(split=m.Execution.Splitter(split=cut)),
        inputs=_reading(graph.producers(binding), m.PAIRING_EACH, "tar" if unpacks else wanted),
        outputs=[m.OutputPort(name="out", format=wanted)],
        parameters_json="{}",
        retry=_RETRY,
        pinned=True,
    )


def merge(
    name: str,
    producers: Producers,
    form: MergeFormat,
    declared: str = "",
    file: str = "",
    pairing: m.Pairing.ValueType = m.PAIRING_GATHER_ALL,
) -> m.Step:
    """Makes one file of all units, or of those of each cluster. `declared`: the format that its reader takes."""
    made = declared or ("" if form == "concat" else form)
    return m.Step(
        name=name,
        execution=m.Execution(merge=m.Execution.Merger(format=form, name=file)),
        inputs=_reading(producers, pairing),
        outputs=[m.OutputPort(name="out", format=made)],
        parameters_json="{}",
        retry=_RETRY,
    )


def output(name: str, told: WorkflowOutput, retain: float) -> m.Step:
    """Keeps each unit as a result of the run, for `retain` seconds unless it says another time itself."""
    merged = told.merge is not None
    producers = ((f"outputs.{name}.merge", "out"),) if merged else graph.producers(told)
    return m.Step(
        name=f"outputs.{name}",
        execution=m.Execution(
            output=m.Execution.Output(
                file=told.file or "",
                store=told.store or "",
                retain=told.retain if told.retain is not None else retain,
            )
        ),
        inputs=_reading(producers, m.PAIRING_EACH),
        parameters_json="{}",
        retry=_RETRY,
        pinned=True,
    )


def _reading(producers: Producers, pairing: m.Pairing.ValueType, form: str = "") -> list[m.InputPort]:
    return [
        m.InputPort(name="in", format=form, from_step=step, from_port=port, pairing=pairing) for step, port in producers
    ]
