"""Ray on this machine with two CPUs: its control store, its raylet, and worker processes. State is in memory."""

from __future__ import annotations

import os
from pathlib import Path

# Both are read when ray is imported, and by the processes that it starts. The second keeps it on this machine: else it
# replaces 127.0.0.1 by the machine's own address and listens on all interfaces, as it doesn't on macOS and Windows.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import ray

from engines.base import Keeps, TimedEngine

OBJECT_STORE = 128 * 1024 * 1024  # bytes; numbers are small, and the default takes 30 % of the machine's memory


@ray.remote
def add_one(value: int) -> int:
    """The step."""
    return value + 1


class Ray(TimedEngine):
    """A chain is 100 remote calls that take each other's object references."""

    distribution = "ray"
    keeps = Keeps.NOTHING
    steps_run_in = "2 worker processes"

    def start(self, state: Path) -> None:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=OBJECT_STORE,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(state),
        )
        ray.get([add_one.remote(0) for _ in range(2)])

    def stop(self) -> None:
        ray.shutdown()

    def chain(self, steps: int) -> int:
        value = add_one.remote(0)
        for _ in range(steps - 1):
            value = add_one.remote(value)
        return int(ray.get(value))

    def fanout(self, units: int) -> int:
        return sum(ray.get([add_one.remote(unit) for unit in range(units)]))
