"""Dask's distributed scheduler in this process, and two worker processes with a thread each. State is in memory."""

from __future__ import annotations

from pathlib import Path

from distributed import Client, LocalCluster

from engines.base import Keeps, TimedEngine


def add_one(value: int) -> int:
    """The step."""
    return value + 1


class Dask(TimedEngine):
    """A chain is 100 futures submitted at once, each an argument of the next."""

    distribution = "distributed"
    keeps = Keeps.NOTHING
    steps_run_in = "2 worker processes"

    def __init__(self) -> None:
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None

    def start(self, state: Path) -> None:
        self._cluster = LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            worker_dashboard_address=None,
            local_directory=str(state),
        )
        self._client = Client(self._cluster)
        self._client.wait_for_workers(2)

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def chain(self, steps: int) -> int:
        assert self._client is not None
        # pure=False: else Dask recognises the call of an earlier repetition and answers from memory
        value = self._client.submit(add_one, 0, pure=False)
        for _ in range(steps - 1):
            value = self._client.submit(add_one, value, pure=False)
        return int(value.result())

    def fanout(self, units: int) -> int:
        assert self._client is not None
        return sum(self._client.gather(self._client.map(add_one, range(units), pure=False)))
