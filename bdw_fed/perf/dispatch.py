"""dispatch: how long until something happens. From a submission to its first task, of a one-step workflow, warm.

One submission after another, each when the former run has ended; the client is connected and the worker warm. Where
the time goes is shown by the coordinator's events in between.
"""

from __future__ import annotations

import time

from bdw_fed.perf.base import Case, Result, Series, Settings, Target
from bdw_fed.perf.federation import DATASET, Federation, federation, python_step, scratch

_STEP = "only"
_WARM_UP = 5


class Dispatch(Case):
    """ms from the submission to the first task; one sample for each submission."""

    name = "dispatch"
    size = 40
    counts = "submissions of a repetition"

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        with scratch() as place, federation(place, "0", durability=settings.durability) as one:
            one.apply(python_step("add-one"), workflow("dispatch"))
            for _ in range(_WARM_UP):
                dispatched(one, "dispatch")
            floor = [_call(one) for _ in range(settings.size)]
            taken = [dispatched(one, "dispatch") for _ in range(settings.size * settings.repetitions)]
            start_seconds = one.start_seconds
        started = [item["task.started"] for item in taken]
        parts = [
            Series(
                "submit answered",
                "submission to its answer: checked, planned, stored",
                [item["answer"] for item in taken],
            ),
            Series(
                "run.started",
                "submission to the fragment in the coordinator's log",
                [item["run.started"] for item in taken],
            ),
            Series("task.done", "submission to the task's result in the log", [item["task.done"] for item in taken]),
            Series("run ended", "submission to the run's ended_at at the hub", [item["ended"] for item in taken]),
        ]
        main = Series(
            "a submission",
            "from the call of submit to task.started of its only step",
            started,
            [Target(10), Target(40, part=0.99)],
            floor,
            "one call to the hub that reads one object from etcd",
        )
        return Result(self.name, settings.size, settings.durability, start_seconds, main, parts)


def workflow(name: str) -> str:
    """One step on the dataset's only unit."""
    return f"""\
kind: Workflow
metadata: {{name: {name}}}
spec:
  inputs: {{number: {{dataset: {DATASET}}}}}
  steps:
    - {{name: {_STEP}, use: add-one@1, in: {{unit: inputs.number}}}}
"""


def dispatched(one: Federation, name: str) -> dict[str, float]:
    """Submit once; when what happened, in ms after the call."""
    began = time.time()
    run = one.client.submit(name).run.name
    answered = time.time()
    ended = one.ended(run)
    return {
        "answer": (answered - began) * 1000,
        "run.started": (ended.first("run.started") - began) * 1000,
        "task.started": (ended.first("task.started", _STEP) - began) * 1000,
        "task.done": (ended.last("task.done", _STEP) - began) * 1000,
        "ended": (ended.run.ended_at - began) * 1000,
    }


def _call(one: Federation) -> float:
    began = time.perf_counter()
    one.client.get("Workflow", "dispatch")
    return (time.perf_counter() - began) * 1000
