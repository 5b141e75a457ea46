"""pipeline: a large file cut into parts that go through three steps which copy. This is bytes, each written four times.

The steps are Python functions that call `shutil.copyfile`, as users write them who change a file. The built-in splitter
cuts while the first parts are in the last step already. Each part and each output is read once more than a pipe would,
for its digest. What is copied is freed as soon as the copy is committed, so the disk need not keep up.

Beside what the node chooses by itself stands the same for each tier that units may lie in, see `tiers`.
"""

from __future__ import annotations

from dataclasses import replace

from bdw_fed.perf import floor, tiers
from bdw_fed.perf.base import Case, Result, Settings, Target
from bdw_fed.perf.fanout import FROM_RUN_TO_LAST
from bdw_fed.perf.federation import scratch


class Pipeline(Case):
    """ms a GiB."""

    name = "pipeline"
    size = 1024
    counts = "MiB"
    most = 64 << 10

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        between, left_out = tiers.between_nodes(settings.storage)
        with scratch() as place:
            bare = floor.measured("pipeline", settings.size, settings.repetitions, place)
            one = tiers.on_one_node(place / "one", settings)
            two = tiers.on_two_nodes(place / "two", between, settings)
        chosen, *each = one.series()
        main = replace(
            chosen,
            what=FROM_RUN_TO_LAST.replace("by tasks", "by GiB"),
            targets=[Target(2, of_floor=True)],
            floor=bare,
            floor_what="cat through 3 pipes to a file on the same disk",
        )
        others = [*each, *two.series()]
        return Result(self.name, settings.size, settings.durability, one.start_seconds, main, others, left_out)
