"""What a task costs in the coordinator's core alone: one split into many units, a task for each, one that gathers.

Run it as `python -m benchmarks.coordinator_core [UNITS] [BATCH] [ENDED]`: beside so many runs that have ended and that
nobody has forgotten yet. Nothing is timed but the core, in seconds of this thread, so that other work on the machine
counts little.
"""

from __future__ import annotations

import sys
import time
from collections import deque

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages, records
from cluster_agent.coordinator.actions import Append, TellNode
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import Event, Place, RunKey
from cluster_agent.orders.messages import Order, Orders, Output, Result, Results, UnitInfo
from wire.digests import bytes_digest, source_task_id, unit_id

RUN = RunKey("default", "run-1")


def fragment(run: RunKey = RUN) -> bytes:
    """source → split → each → gather → output on one cluster."""
    proto = model_pb2.Fragment(namespace=run.namespace, run=run.run, cluster="a", epoch=1, revision=1)
    each, gather = model_pb2.PAIRING_EACH, model_pb2.PAIRING_GATHER_ALL
    for name, kind, producer, pairing in (
        ("inputs.rows", "source", "", each),
        ("work.rows.split", "split", "inputs.rows", each),
        ("work", "python", "work.rows.split", each),
        ("report", "python", "work", gather),
        ("outputs.report", "output", "report", each),
    ):
        step = proto.steps.add(name=name, counter="a", definition=f"{name}@1" if kind == "python" else "")
        getattr(step.execution, kind).SetInParent()
        step.executors.add(cluster="a", share=1.0)
        step.resources.cpus = 1.0
        if producer:
            step.inputs.add(name="rows", format="csv", from_step=producer, from_port="out", pairing=pairing)
        if kind != "output":
            step.outputs.add(name="out", format="csv")
    proto.sources.add(step="inputs.rows", index=0, path="rows.csv")
    return proto.SerializeToString()


def made(maker: bytes, index: int = 0) -> Output:
    """A unit as a node would tell it."""
    identifier = unit_id(maker, "out", index)
    return Output("out", index, UnitInfo(identifier, bytes_digest(identifier), 1000, name="out.csv"))


class Bench:
    """A coordinator whose one node answers at once."""

    def __init__(self, units: int, batch: int, ended: int) -> None:
        self.core = Coordinator("a", Policy())
        self.units = units
        self.batch = batch
        self.ended = ended
        self.seconds = 0.0
        self.records: list[object] = []
        self.running: deque[Order] = deque()
        self.now = 1.0

    def do(self, *events: Event) -> None:
        """Hand over a batch, and take down what it starts."""
        began = time.thread_time()
        actions = self.core.handle_all(events, self.now)
        self.seconds += time.thread_time() - began
        self.now += 0.001
        for action in actions:
            if isinstance(action, Append):
                self.records.append(action.record)
            elif isinstance(action, TellNode) and isinstance(action.command, Orders):
                self.running.extend(action.command.orders)

    def done(self, tasks: list[Order], count: int = 1) -> messages.NodeSaid:
        """The node's word that tasks ended."""
        results = (
            Result(task.task, task.attempt, tuple(made(task.task, i) for i in range(count)), seconds=0.002)
            for task in tasks
        )
        return messages.NodeSaid("n", Results(RUN.namespace, RUN.run, tuple(results)))

    def run(self) -> None:
        """The whole run; prints what each part cost."""
        for number in range(self.ended):
            before = RunKey(RUN.namespace, f"before-{number}")
            self.do(messages.FragmentAssigned(fragment(before), model_pb2.DESIRED_STATE_RUNNING))
            self.do(messages.DesiredChanged(before, model_pb2.DESIRED_STATE_CANCELLED))
        self.seconds = 0.0
        self.do(messages.FragmentAssigned(fragment(), model_pb2.DESIRED_STATE_RUNNING))
        self.do(messages.NodeJoined("n", b"1", 2.0, 1 << 30, Place("a", "n", "n:1")))
        maker = source_task_id(RUN.namespace, RUN.run, "inputs.rows", 0)
        self.do(messages.SourceRead("n", RUN, "inputs.rows", 0, (made(maker),)))
        self.do(self.done([self.running.popleft()], self.units))
        split = self.seconds
        tasks = 0
        while self.running:
            batch = [self.running.popleft() for _ in range(min(self.batch, len(self.running)))]
            tasks += len(batch)
            self.do(self.done(batch))
        assert self.core.status(RUN).state == model_pb2.FRAGMENT_STATE_SUCCEEDED
        print(f"a unit of the split: {split / self.units * 1e6:.1f} us; a task: {self.tasks_us(split, tasks):.1f} us")
        began = time.thread_time()
        log = [records.encode(record) for record in self.records]  # type: ignore[arg-type]
        encoded = time.thread_time() - began
        print(f"log: {sum(map(len, log)) / tasks:.0f} bytes and {encoded / tasks * 1e6:.1f} us to encode, a task")
        snapshot = self.core.snapshot()
        replayed = Coordinator("a")
        began = time.thread_time()
        for record in log:
            replayed.apply(records.decode(record))
        print(f"replay: {(time.thread_time() - began) / tasks * 1e6:.1f} us a task")
        assert replayed.snapshot() == snapshot

    def tasks_us(self, split: float, tasks: int) -> float:
        """Microseconds a task, without the split's commit."""
        return (self.seconds - split) / tasks * 1e6


if __name__ == "__main__":
    Bench(*(int(word) for word in (sys.argv[1:] + ["10000", "32", "0"][len(sys.argv) - 1 :]))).run()
