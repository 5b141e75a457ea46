"""command: many units through the program `true`. What counts is what comes on top of starting a program."""

from __future__ import annotations

import statistics

from bdw_fed.perf import floor
from bdw_fed.perf.base import Case, Result, Series, Settings, Target
from bdw_fed.perf.fanout import FROM_RUN_TO_LAST, lines, sample, split_workflow
from bdw_fed.perf.federation import federation, scratch

_STEP = """\
kind: Step
metadata: {name: run-true, version: "1"}
spec:
  run: {command: ["true"]}
  inputs: {unit: {}}
  pool: {idle: 10m}
"""


class Command(Case):
    """ms a task."""

    name = "command"
    size = 2_000
    counts = "units"

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        size, repetitions, durability = settings.size, settings.repetitions, settings.durability
        with scratch() as place:
            bare = floor.measured("command", size, repetitions, place)
            with federation(place, lines(size), durability=durability) as one:
                one.apply(_STEP, split_workflow("command", "run-true"))
                sample(one, "command", size)
                samples = [sample(one, "command", size) for _ in range(repetitions)]
                start_seconds = one.start_seconds
        main = Series(
            "a task",
            FROM_RUN_TO_LAST,
            samples,
            (),
            bare,
            "posix_spawn and wait, from two processes at once",
        )
        above = Series(
            "above the floor",
            "each sample less the floor's median",
            [taken - statistics.median(bare) for taken in samples],
            [Target(0.3)],
        )
        return Result(self.name, size, durability, start_seconds, main, [above])
