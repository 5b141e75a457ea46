"""pipeline: a large file cut into parts that go through three steps which copy. This is bytes, each written four times.

The steps are Python functions that call `shutil.copyfile`, as users write them who change a file. The built-in splitter
cuts while the first parts are in the last step already. Each part and each output is read once more than a pipe would,
for its digest. What is copied is freed as soon as the copy is committed, so the disk need not keep up.
"""

from __future__ import annotations

from bdw_fed.perf import floor
from bdw_fed.perf.base import Case, PerfError, Result, Series, Settings, Target
from bdw_fed.perf.fanout import FROM_RUN_TO_LAST
from bdw_fed.perf.federation import DATASET, FILE, Federation, copying_step, federation, scratch

_PART_MIB = 8
_STEPS = ("first", "second", "third")


class Pipeline(Case):
    """ms a GiB."""

    name = "pipeline"
    size = 1024
    counts = "MiB"
    most = 64 << 10

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        size, repetitions, durability = settings.size, settings.repetitions, settings.durability
        with scratch() as place:
            bare = floor.measured("pipeline", size, repetitions, place)
            with federation(place, lambda data: floor.write_csv(data / FILE, size), durability=durability) as one:
                one.apply(copying_step("copy"), _workflow())
                _sample(one, size)
                samples = [_sample(one, size) for _ in range(repetitions)]
                start_seconds = one.start_seconds
        main = Series(
            "a GiB",
            FROM_RUN_TO_LAST.replace("by tasks", "by GiB"),
            samples,
            [Target(2, of_floor=True)],
            bare,
            "cat through 3 pipes to a file on the same disk",
        )
        return Result(self.name, size, durability, start_seconds, main)


def _workflow() -> str:
    steps = []
    source = f"{{from: inputs.rows, split: {{size: {_PART_MIB}MiB, header: true}}}}"
    for step in _STEPS:
        steps.append(f"    - {{name: {step}, use: copy@1, in: {{rows: {source}}}}}\n")
        source = f"{step}.rows"
    return f"""\
kind: Workflow
metadata: {{name: pipeline}}
spec:
  inputs: {{rows: {{dataset: {DATASET}}}}}
  steps:
{"".join(steps)}"""


def _sample(one: Federation, size: int) -> float:
    """Run it once; ms a GiB."""
    ended = one.run("pipeline")
    done = [ended.done(step) for step in _STEPS]
    if len(set(done)) != 1 or done[0] < size / _PART_MIB:
        raise PerfError(f"run {ended.run.name} has {done} tasks done, expected as many parts in each step")
    return (ended.last("task.done", _STEPS[-1]) - ended.run.started_at) * 1000 * 1024 / size
