"""chain: dependent steps on one unit, each a Python function in a warm worker. This is latency; nothing can be batched.

Every step of the workflow uses one step definition, so that they share a pool. A step takes the number that the former
returned, and the run's output proves that each has run once. Beside it stands the same chain of a step that reads and
writes files.
"""

from __future__ import annotations

from pathlib import Path

from bdw_fed.perf import floor
from bdw_fed.perf.base import Case, PerfError, Result, Series, Settings, Target
from bdw_fed.perf.federation import DATASET, Ended, Federation, federation, python_step, scratch, value_step

_FILES = "chain-files"


class Chain(Case):
    """ms a step."""

    name = "chain"
    size = 100
    counts = "steps"
    most = 300  # the coordinator remembers the newest 1000 events of a run, three for each step

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        size, repetitions, durability = settings.size, settings.repetitions, settings.durability
        with scratch() as place:
            bare = floor.measured("chain", size, repetitions, place, durability=durability)
            synced = floor.measured("fsync", 50, repetitions, place) if durability == "power" else []
            with federation(place, "0", durability=durability) as one:
                one.apply(value_step("add-one"), _workflow("chain", "add-one", size))
                one.apply(python_step("add-one-file"), _workflow(_FILES, "add-one-file", size))
                samples = self._samples(one, "chain", size, repetitions, place)
                with_files = self._samples(one, _FILES, size, settings.fewer, place)
                start_seconds = one.start_seconds
        main = Series(
            "a step",
            "from run.started (the coordinator has logged the fragment) to the last step's task.done, by steps",
            samples,
            [Target(0.5) if durability == "process" else Target(1.5, of_floor=True)],
            synced or bare,
            "one fdatasync of 256 bytes" if synced else "asyncio, a commit of each event to SQLite, a forked worker",
        )
        other = Series("with files", "the same of a step that reads a file and writes one", with_files)
        return Result(self.name, size, durability, start_seconds, main, [other])

    def _samples(self, one: Federation, workflow: str, size: int, repetitions: int, place: Path) -> list[float]:
        """ms a step, after a run that does not count."""
        self._once(one, workflow, size)
        samples = []
        for number in range(repetitions):
            ended = self._once(one, workflow, size)
            samples.append((ended.last("task.done", _step(size)) - ended.first("run.started")) * 1000 / size)
            if number == 0 and one.result(ended.run.name, place / f"result-{workflow}") != b"%d" % size:
                raise PerfError(f"a chain of {size} steps did not count to {size}")
        return samples

    def _once(self, one: Federation, workflow: str, size: int) -> Ended:
        ended = one.run(workflow)
        if ended.done(_step(size)) != 1:
            raise PerfError(f"run {ended.run.name} did not run its last step")
        return ended


def _step(number: int) -> str:
    return f"s{number}"


def _workflow(name: str, step: str, size: int) -> str:
    lines = [
        "kind: Workflow",
        f"metadata: {{name: {name}}}",
        "spec:",
        f"  inputs: {{number: {{dataset: {DATASET}}}}}",
        "  steps:",
    ]
    for number in range(1, size + 1):
        source = "inputs.number" if number == 1 else f"{_step(number - 1)}.unit"
        lines.append(f"    - {{name: {_step(number)}, use: {step}@1, in: {{unit: {source}}}}}")
    lines.append(f"  outputs: {{number: {{from: {_step(size)}.unit, file: number}}}}")
    return "\n".join(lines) + "\n"
