"""What a small task costs in its worker: the processor time of one warm interpreter, by how the step takes its unit.

Run it as `python -m benchmarks.worker_jobs [TASKS [REPETITIONS]]`. Jobs are given as a node gives them, 64 ahead; the
worker's own time is read from its clock, so that what the daemon's side takes is not in it. A step that does nothing
but add one shows what is ours.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cluster_agent.runtimes.base import Outcome, SmallEnd, SmallJob, SmallWork, Values, Worker, WorkerSpec
from cluster_agent.runtimes.process.places import SHARED_MEMORY, Places
from cluster_agent.runtimes.process.runtime import ProcessRuntime

_AHEAD = 64
_CODE = """
def with_files(unit, out):
    out["unit"].write_bytes(b"%d" % (int(unit.read_bytes()) + 1))

def with_values(unit):
    return unit + 1
"""


class _Job(SmallJob):
    def write(self, stream: int, data: bytes) -> None:
        """Nothing is said."""


class _Rounds:
    """Gives job after job, and knows when so many have ended."""

    def __init__(self, worker: Worker, work: SmallWork, count: int) -> None:
        self._worker = worker
        self._work = work
        self._given = self._ended = 0
        self._count = count
        self.over = asyncio.Event()

    def give(self, count: int) -> None:
        """Have so many more done."""
        first = self._given
        self._given = min(first + count, self._count)
        jobs = [_Job(self._work, f"{number:032x}", 1, [b"%d" % number]) for number in range(first, self._given)]
        if jobs:
            self._worker.give(jobs, self)

    def ended(self, worker: Worker, ends: Sequence[SmallEnd]) -> None:  # noqa: ARG002
        """See Listener."""
        assert all(end.failure is None and int(end.outputs[0] or b"") == int(end.job.task, 16) + 1 for end in ends)
        self._ended += len(ends)
        self.give(len(ends))
        if self._ended == self._count:
            self.over.set()

    def died(
        self,
        worker: Worker,  # noqa: ARG002
        job: SmallJob | None,  # noqa: ARG002
        outcome: Outcome,
        others: Sequence[SmallJob],  # noqa: ARG002
    ) -> None:
        """See Listener."""
        raise RuntimeError(outcome.message)


async def _measured(function: str, values: Values, tasks: int, repetitions: int) -> list[float]:
    """Microseconds of the worker's processor a task, one for each repetition after one that does not count."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "steps.py").write_text(_CODE)
        memory = Path(tempfile.mkdtemp(dir=SHARED_MEMORY)) / "places"
        runtime = ProcessRuntime(places=Places(memory, place / "disk"))
        await runtime.open()
        try:
            worker = await runtime.start(WorkerSpec("s@1", function=f"steps:{function}", bundle=place))
            work = SmallWork({"BDW_FED_STEP": "s"}, (("unit", "unit"),), (("unit", "unit"),), {}, values)
            clock = (~worker.pid << 3) | 2  # the kernel's name for a process' clock, as clock_getcpuclockid makes it
            samples = []
            for _ in range(repetitions + 1):
                rounds = _Rounds(worker, work, tasks)
                began = time.clock_gettime(clock)
                rounds.give(_AHEAD)
                await rounds.over.wait()
                samples.append((time.clock_gettime(clock) - began) * 1e6 / tasks)
            await worker.stop()
        finally:
            await runtime.close()
            memory.parent.rmdir()
        return samples[1:]


def _main(tasks: int = 20_000, repetitions: int = 5) -> None:
    forms = {
        "with_files": Values(),
        "with_values": Values({"unit": "json"}, {"unit": ("json", False)}),
    }
    for function, values in forms.items():
        samples = sorted(asyncio.run(_measured(function, values, tasks, repetitions)))
        print(f"{function}: {samples[len(samples) // 2]:.1f} µs a task ({samples[0]:.1f} – {samples[-1]:.1f})")


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
