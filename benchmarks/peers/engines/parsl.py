"""Parsl with its HighThroughputExecutor: an interchange process, a manager process, two worker processes.

Logging to files, scaling by a strategy and usage tracking are off; the rest is as it comes (ZeroMQ with CURVE
encryption) but for one: a manager takes tasks ahead of its workers, which makes a fanout of tiny tasks a third
quicker and which anyone with such tasks would set. State is in memory: with no checkpoint configured, nothing is
written for a task.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from engines.base import Keeps, TimedEngine


@parsl.python_app
def add_one(value: int) -> int:
    """The step."""
    return value + 1


class Parsl(TimedEngine):
    """A chain is 100 apps that take each other's futures."""

    distribution = "parsl"
    keeps = Keeps.NOTHING
    steps_run_in = "2 worker processes"

    def __init__(self) -> None:
        self._kernel: parsl.DataFlowKernel | None = None

    def start(self, state: Path) -> None:
        # Parsl starts its programs by name, which are beside this interpreter
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        executor = HighThroughputExecutor(
            label="peers",
            address="127.0.0.1",
            max_workers_per_node=2,
            cores_per_worker=0.1,  # or a machine with fewer than two free cores would get one worker
            prefetch_capacity=32,
            provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
            worker_logdir_root=str(state),
        )
        self._kernel = parsl.load(
            Config(
                executors=[executor],
                strategy="none",
                usage_tracking=0,
                initialize_logging=False,
                run_dir=str(state / "runinfo"),
            )
        )
        assert add_one(0).result() == 1  # the executor starts its workers in the background

    def stop(self) -> None:
        if self._kernel is not None:
            self._kernel.cleanup()
            parsl.clear()

    def chain(self, steps: int) -> int:
        value = add_one(0)
        for _ in range(steps - 1):
            value = add_one(value)
        return int(value.result())

    def fanout(self, units: int) -> int:
        return sum(future.result() for future in [add_one(unit) for unit in range(units)])
