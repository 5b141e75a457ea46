"""pipeline: a large file cut into parts that go through three steps which copy. This is bytes, each written four times.

The steps are Python functions that call `shutil.copyfile`, as users write them who change a file. The built-in splitter
cuts while the first parts are in the last step already. Each part and each output is read once more than a pipe would,
for its digest. What is copied is freed as soon as the copy is committed, so the disk need not keep up.

Beside what the node chooses by itself stands the same with each word that a workflow may say of where units lie.
"""

from __future__ import annotations

from bdw_fed.perf import floor
from bdw_fed.perf.base import Case, PerfError, Result, Series, Settings, Target
from bdw_fed.perf.fanout import FROM_RUN_TO_LAST
from bdw_fed.perf.federation import DATASET, FILE, Federation, copying_step, federation, scratch
from workflow.model import Store

_PART_MIB = 8
_STEPS = ("first", "second", "third")
_STORES: tuple[Store, ...] = ("auto", "memory", "disk")


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
                one.apply(copying_step("copy"), *map(_workflow, _STORES))
                for store in _STORES:
                    _sample(one, size, store)
                # in turns, so that whatever else the machine does is shared by all of them
                rounds = [{store: _sample(one, size, store) for store in _STORES} for _ in range(repetitions)]
                start_seconds = one.start_seconds
        main = Series(
            "a GiB",
            FROM_RUN_TO_LAST.replace("by tasks", "by GiB"),
            [each["auto"] for each in rounds],
            [Target(2, of_floor=True)],
            bare,
            "cat through 3 pipes to a file on the same disk",
        )
        beside = [
            Series(f"store: {store}", "the same, where the workflow says so", [each[store] for each in rounds])
            for store in _STORES
            if store != "auto"
        ]
        return Result(self.name, size, durability, start_seconds, main, beside)


def _workflow(store: Store) -> str:
    steps = []
    source = f"{{from: inputs.rows, split: {{size: {_PART_MIB}MiB, header: true}}, store: {store}}}"
    for step in _STEPS:
        steps.append(f"    - {{name: {step}, use: copy@1, in: {{rows: {source}}}}}\n")
        source = f"{{from: {step}.rows, store: {store}}}"
    return f"""\
kind: Workflow
metadata: {{name: pipeline-{store}}}
spec:
  inputs: {{rows: {{dataset: {DATASET}}}}}
  steps:
{"".join(steps)}"""


def _sample(one: Federation, size: int, store: Store) -> float:
    """Run it once; ms a GiB."""
    ended = one.run(f"pipeline-{store}")
    done = [ended.done(step) for step in _STEPS]
    if len(set(done)) != 1 or done[0] < size / _PART_MIB:
        raise PerfError(f"run {ended.run.name} has {done} tasks done, expected as many parts in each step")
    return (ended.last("task.done", _STEPS[-1]) - ended.run.started_at) * 1000 * 1024 / size
