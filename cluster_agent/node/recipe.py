"""What a worker of a pool is made of, as a runtime has to know it, from the step's execution in the contract."""

from __future__ import annotations

from pathlib import Path

from bdw_fed.v1 import model_pb2
from cluster_agent.node.messages import PoolSpec
from cluster_agent.runtimes.base import Secret, Service, Watching, WorkerSpec

KINDS = frozenset(("python", "command", "service", "directory"))  # that need a worker


def worker_spec(pool: PoolSpec, execution: model_pb2.Execution, disk: int, bundle: Path | None) -> WorkerSpec:
    """A worker's; `disk` is what one of its tasks may write."""
    kind = execution.WhichOneof("kind") or ""
    told = getattr(execution, kind)
    service = watching = None
    cpus, memory = pool.cpus, pool.memory
    if kind == "service":
        service = Service(told.slots, told.protocol, told.warm_up, told.health)
        cpus, memory = told.cpus, told.memory  # of the process: the pool's are of a slot
        disk = 0  # a limit on the process would be one on all of its tasks
    elif kind == "directory":
        watching = Watching(tuple(told.arguments), told.code, told.poll, told.settle, told.written)
    return WorkerSpec(
        definition=pool.definition,
        function=told.function if kind == "python" else "",
        argv=tuple(told.argv) if kind != "python" else (),
        env=tuple(sorted(told.env.items())),
        bundle=bundle,
        memory=memory,
        disk=disk,
        image=execution.image,
        user=execution.user,
        cpus=cpus,
        secrets=tuple(
            (name, Secret(secret.namespace, secret.name, secret.key))
            for name, secret in sorted(execution.secrets.items())
        ),
        service=service,
        watching=watching,
    )
