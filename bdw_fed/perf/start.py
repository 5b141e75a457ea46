"""start: from nothing to a federation that is ready, and from its first submission to a result of a cold pool.

Each repetition starts a federation of its own. Its first run finds no worker, no bundle on the node, and no connection
that was used before.
"""

from __future__ import annotations

from bdw_fed.perf import floor
from bdw_fed.perf.base import Case, Result, Series, Settings, Target
from bdw_fed.perf.dispatch import dispatched, workflow
from bdw_fed.perf.federation import federation, python_step, scratch


class Start(Case):
    """ms from `up` to ready."""

    name = "start"
    size = 1
    counts = "federations of a repetition"
    most = 1

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        ready = []
        first = []
        with scratch() as place:
            importing = floor.measured("import", 1, settings.repetitions, place)
        for _ in range(settings.repetitions + 1):
            with scratch() as place, federation(place, "0", durability=settings.durability) as one:
                one.apply(python_step("add-one"), workflow("dispatch"))
                ready.append(one.start_seconds * 1000)
                first.append(dispatched(one, "dispatch")["task.done"])
        del ready[0], first[0]  # the warm-up: files that were not in memory yet
        main = Series(
            "ready",
            "from the call of start to the hub, the agent and the node being ready (etcd, hub, agent, node)",
            ready,
            [Target(4000)],
            importing,
            "a fresh interpreter that imports what hub, agent and node run",
        )
        cold = Series("first task", "from the first submission to its task.done, of a cold pool", first, [Target(400)])
        return Result(self.name, 1, settings.durability, main.median / 1000, main, [cold])
