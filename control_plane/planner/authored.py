"""The steps of a run that its author has written: a use of a step, over the step's definition, in the contract's words.

What is said in the workflow lies over what the step's definition says. `built_in` has the steps that nobody has
written; `compile` says how all stand together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.execution import execution, of_a_slot
from workflow import graph
from workflow.model import Batch as WrittenBatch
from workflow.model import Binding, InputPort, OutputPort, Retry, Step, StepUse, Value

_PAIRING = {
    "each": m.PAIRING_EACH,
    "same_cluster": m.PAIRING_SAME_CLUSTER,
    "gather_all": m.PAIRING_GATHER_ALL,
    "broadcast": m.PAIRING_BROADCAST,
    "cross": m.PAIRING_CROSS,
    "zip": m.PAIRING_ZIP,
    "group": m.PAIRING_GROUP,
    "gather_each": m.PAIRING_GATHER_EACH,
    "gather_tree": m.PAIRING_GATHER_ALL,
}
_APART = ("each", "group", "gather_each", "zip")  # how ports are read that make more than one task


@dataclass(frozen=True)
class Definition:
    """A step's definition and the digest of its code's archive (empty: it has none)."""

    step: Step
    bundle: bytes = b""


def authored(
    use: StepUse, definition: Definition, parameters: Mapping[str, Value], forms: Mapping[tuple[str, str], str]
) -> m.Step:
    """The step of the run for a use with these resolved parameters; `forms` are of all outputs, by step and port."""
    spec = definition.step.spec
    wanted = graph.resources(use, definition.step)
    resources, pool = of_a_slot(spec.run, wanted, graph.pool(use, definition.step))
    timeout = graph.timeout(use, definition.step)
    code = execution(spec.run, definition.bundle, wanted)
    for name, secret in sorted(spec.secrets.items()):
        code.secrets[name].CopyFrom(m.SecretKey(name=secret.name, key=secret.key))
    step = m.Step(
        name=use.name,
        definition=definition.step.reference,
        execution=code,
        inputs=[
            *(each for port, made in sorted(use.inputs.items()) for each in _input(use, port, made, definition)),
            *(_filled(use, name, made, definition, forms) for name, made in sorted(graph.makers(use).items())),
            *(_deciding(use, index, made, forms[made]) for index, made in enumerate(graph.deciders(use))),
        ],
        outputs=[
            m.OutputPort(name=name, format=port.written or "", optional=port.optional, form=form_of(port))
            for name, port in sorted(spec.outputs.items())
        ],
        parameters_json=json.dumps(dict(parameters), sort_keys=True),
        resources=resources,
        pool=pool,
        retry=_retry(graph.retry(use, definition.step)),
        timeout=timeout.run,
        queue_timeout=timeout.queue,
        start_timeout=timeout.start,
        on_failure=use.on_failure,
        prefer=use.place.prefer,
        preemptible=use.preemptible,
    )
    for each in use.place.tolerate:
        if each.effect in (None, "NoExecute"):
            taint = each.key if each.value is None else f"{each.key}={each.value}"
            if each.seconds is None:
                step.tolerates.append(taint)
            else:
                step.tolerates_for[taint] = each.seconds
    return step


def _retry(told: Retry) -> m.Retry:
    return m.Retry(
        attempts=told.attempts,
        backoff=told.backoff,
        factor=told.factor,
        max_backoff=told.max,
        jitter=told.jitter,
        on=told.on or (),
        not_on=told.not_on,
    )


def _input(use: StepUse, port: str, binding: Binding, definition: Definition) -> list[m.InputPort]:
    producers = graph.producers(binding)
    if binding.split is not None:
        producers = ((f"{use.name}.{port}.split", "out"),)
    elif binding.merge is not None:
        producers = ((f"{use.name}.{port}.merge", "out"),)
    declared = definition.step.spec.inputs[port]
    return [
        m.InputPort(
            name=port,
            format=declared.format or "",
            from_step=source,
            from_port=from_port,
            pairing=_PAIRING[binding.pairing],
            form=form_of(declared),
            group_by=binding.group.by if binding.group is not None else "",
            batch=_batch(binding.batch) if binding.batch is not None else None,
        )
        for source, from_port in producers
    ]


def _batch(batch: WrittenBatch) -> m.Batch:
    return m.Batch(count=batch.count or 0, size=batch.size or 0, wait=batch.wait)


def _filled(
    use: StepUse, name: str, made: tuple[str, str], definition: Definition, forms: Mapping[tuple[str, str], str]
) -> m.InputPort:
    """A parameter that another step makes is a port of its own: beside those that make tasks, or gathered with all."""
    takes = definition.step.spec.parameters[name]
    parameter = m.Filled(
        name=name,
        type=takes.type,
        enum_json=json.dumps(takes.enum) if takes.enum is not None else "",
        minimum=takes.minimum,
        maximum=takes.maximum,
        maker=".".join(made),
    )
    return _value(use, f"param.{name}", made, forms[made], parameter)


def _deciding(use: StepUse, index: int, made: tuple[str, str], form: str) -> m.InputPort:
    """So is what another step makes and the step's condition names."""
    maker = ".".join(made)
    return _value(use, f"when.{index}", made, form, m.Filled(name=maker, maker=maker, when=use.when or ""))


def _value(use: StepUse, name: str, made: tuple[str, str], form: str, parameter: m.Filled) -> m.InputPort:
    alone = not any(binding.pairing in _APART for binding in use.inputs.values())
    return m.InputPort(
        name=name,
        from_step=made[0],
        from_port=made[1],
        pairing=m.PAIRING_GATHER_ALL if alone else m.PAIRING_BROADCAST,
        form=form,
        parameter=parameter,
    )


def form_of(port: InputPort | OutputPort) -> str:
    """How a port takes or gives what it does, as the contract says it; a path is said by nothing."""
    return "" if port.form == "path" else port.form
