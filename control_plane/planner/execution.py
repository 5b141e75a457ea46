"""How a step is run, from its author's words to the contract's.

What nodes, coordinators and planner count is slots, each with room for one task. A worker of a `service` has several:
what its author says of a worker is cut into that of a slot here, once, and nobody after us has to know
(decision 33).
"""

from __future__ import annotations

from bdw_fed.v1 import model_pb2 as m
from workflow.model import Execution, Pool, Resources


def execution(run: Execution, bundle: bytes, resources: Resources) -> m.Execution:
    """A step's code and how it is started; `bundle` is the digest of its archive, `resources` are of a worker."""
    made = m.Execution(bundle=bundle, image=run.image or "", user=run.user or "")
    match run.kind:
        case "python":
            made.python.CopyFrom(m.Execution.Python(function=run.python or "", env=run.env))
        case "command":
            made.command.CopyFrom(m.Execution.Command(argv=run.words, env=run.env))
        case "service":
            made.service.CopyFrom(
                m.Execution.Service(
                    argv=run.words,
                    env=run.env,
                    slots=run.slots,
                    protocol=run.protocol,
                    warm_up=run.warm_up,
                    health=run.health,
                    cpus=resources.cpus,
                    memory=resources.memory,
                )
            )
        case "directory":
            made.directory.CopyFrom(
                m.Execution.Directory(
                    argv=run.words,
                    env=run.env,
                    arguments=run.arguments,
                    code=run.code or "",
                    poll=run.poll,
                    settle=run.settle or 2 * run.poll,
                    written=run.done == "written",
                )
            )
    return made


def of_a_slot(run: Execution, resources: Resources, pool: Pool) -> tuple[m.Resources, m.Pool]:
    """What is said of a worker, as said of each of its slots. What a task may write is its own."""
    slots = run.slots if run.kind == "service" else 1
    return (
        m.Resources(cpus=resources.cpus / slots, memory=-(-resources.memory // slots), disk=resources.disk),
        m.Pool(
            min=pool.min * slots,
            max=pool.max * slots,
            idle=pool.idle,
            step=pool.step * slots,
            pause=pool.pause,
        ),
    )


def of_a_worker(step: m.Step) -> tuple[float, int]:
    """The processors and the memory that a node must have for one worker: of a service, for its process."""
    if step.execution.HasField("service"):
        return step.execution.service.cpus, step.execution.service.memory
    return step.resources.cpus, step.resources.memory
