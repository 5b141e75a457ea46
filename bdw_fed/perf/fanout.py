"""fanout: many units through one Python step on one cluster. This is throughput: batching and both workers help.

The units are the lines of one file, cut by the built-in splitter while the step runs already; so making them is part of
what is measured. Each task takes a number and returns one, whose unit is freed at once because nobody reads it. Beside
it stands the same of a step that reads and writes files.
"""

from __future__ import annotations

from bdw_fed.perf import floor
from bdw_fed.perf.base import Case, PerfError, Result, Series, Settings, Target
from bdw_fed.perf.federation import DATASET, Federation, federation, python_step, scratch, value_step

FROM_RUN_TO_LAST = "from the run's started_at (the hub has planned it) to the step's last task.done, by tasks"
STEP = "each"
_FILES = "fanout-files"


class Fanout(Case):
    """ms a task."""

    name = "fanout"
    size = 10_000
    counts = "units"

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        size, repetitions, durability = settings.size, settings.repetitions, settings.durability
        with scratch() as place:
            bare = floor.measured("fanout", size, repetitions, place, durability=durability)
            with federation(place, lines(size), durability=durability) as one:
                one.apply(value_step("add-one"), split_workflow("fanout", "add-one"))
                one.apply(python_step("add-one-file"), split_workflow(_FILES, "add-one-file"))
                sample(one, "fanout", size)
                samples = [sample(one, "fanout", size) for _ in range(repetitions)]
                sample(one, _FILES, size)
                with_files = [sample(one, _FILES, size) for _ in range(settings.fewer)]
                start_seconds = one.start_seconds
        main = Series(
            "a task",
            FROM_RUN_TO_LAST,
            samples,
            [Target(0.1)],
            bare,
            "asyncio, SQLite commits of all that has arrived, two forked workers",
        )
        other = Series("with files", "the same of a step that reads a file and writes one", with_files)
        return Result(self.name, size, durability, start_seconds, main, [other])


def lines(size: int) -> str:
    """The content of a dataset of so many units."""
    return "".join(f"{number}\n" for number in range(size))


def split_workflow(name: str, step: str) -> str:
    """A workflow that gives each line of the dataset to a step's port `unit`."""
    return f"""\
kind: Workflow
metadata: {{name: {name}}}
spec:
  inputs: {{numbers: {{dataset: {DATASET}}}}}
  steps:
    - name: {STEP}
      use: {step}@1
      in: {{unit: {{from: inputs.numbers, split: {{lines: 1}}}}}}
"""


def sample(one: Federation, workflow: str, size: int) -> float:
    """Run it once; ms a task."""
    ended = one.run(workflow)
    if ended.done(STEP) != size:
        raise PerfError(f"run {ended.run.name} has {ended.done(STEP)} tasks done, expected {size}")
    return (ended.last("task.done", STEP) - ended.run.started_at) * 1000 / size
