"""What makes two tasks the same, whatever run they are of: the part of a cache's key that a plan knows.

All that a task's result may depend on goes into it: the step's version with the code that it names (bundle by content,
image as it is written), the resolved parameters, how each port is read and written, and the author's own word. What
only moves the work does not: resources, pools, timeouts, places, and the step's name in the workflow. The contents of a
task's inputs, and the namespace, are added where the task is.
"""

from __future__ import annotations

from blake3 import blake3

from bdw_fed.v1 import model_pb2 as m
from workflow.model import Caching


def cached(step: m.Step, wanted: Caching, *, fresh: bool) -> m.Caching:
    """How a planned step's results are cached."""
    content = m.Step(
        definition=step.definition,
        execution=step.execution,
        inputs={port.name: _seen(port) for port in step.inputs}.values(),
        outputs=step.outputs,
        parameters_json=step.parameters_json,
    )
    told = content.SerializeToString(deterministic=True)
    key = blake3(len(told).to_bytes(8, "big") + told + wanted.key.encode()).digest()
    return m.Caching(key=key, age=wanted.age, fresh=fresh)


def _seen(port: m.InputPort) -> m.InputPort:
    """What a task sees of a port; from where its units come, and how many are waited for, their contents tell."""
    seen = m.InputPort(name=port.name, format=port.format, form=port.form, pairing=port.pairing)
    if port.HasField("batch"):
        seen.batch.SetInParent()
    if port.HasField("parameter"):
        seen.parameter.CopyFrom(port.parameter)
        seen.parameter.ClearField("maker")  # a condition stays: under another one a task may not be executed
    return seen
