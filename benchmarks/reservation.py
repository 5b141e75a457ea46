"""What reserving costs: slots held and idle, and when runs end, with `none`, `hold` and `lend` on one scenario.

    python -m benchmarks.reservation [SEED] [--svg FILE]

Three clusters of four slots. Six runs that reserve (or, with `none`, do not) have three phases, one on each cluster,
with a barrier between them: prepare at an edge, analyse in the cloud, tell the other edge. Six others that reserve
nothing come in between. The production cores (planner, runs, queue, coordinators) run on virtual time, so the same seed
gives the same figures on any machine; nothing here is timed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

from bdw_fed.v1 import model_pb2
from control_plane.planner.authored import Definition
from control_plane.runs import forms
from simulator.cluster import Cluster
from simulator.federation import Federation
from simulator.job import Job

CLUSTERS: Final = {"edge1": {"n1": 2.0, "n2": 2.0}, "edge2": {"n1": 2.0, "n2": 2.0}, "cloud": {"n1": 4.0}}
VARIANTS: Final = {
    "none": ("none", False),
    "hold": ("hold", False),
    "lend": ("lend", False),
    "lend, others preemptible": ("lend", True),
}
RUNS: Final = 6
UNITS: Final = 8
SLOTS: Final = 2  # that a phase may use, and therefore reserves

OBJECTS: Final = """
kind: Topology
metadata: {{name: bench}}
spec:
  zones: [{{name: here, tier: edge}}]
  clusters:
    - {{name: edge1, zone: here, runtime: process, nodes: [{{name: n1, cpus: 2, memory: 4Gi}}, {{name: n2, cpus: 2, memory: 4Gi}}]}}
    - {{name: edge2, zone: here, runtime: process, nodes: [{{name: n1, cpus: 2, memory: 4Gi}}, {{name: n2, cpus: 2, memory: 4Gi}}]}}
    - {{name: cloud, zone: here, runtime: process, nodes: [{{name: n1, cpus: 4, memory: 4Gi}}]}}
  datasets: [{{name: rows, parts: [{{at: {edge}, path: rows.csv, size: 1MiB}}]}}]
---
kind: Step
metadata: {{name: work, version: "1"}}
spec: {{run: {{python: "code:main"}}, inputs: {{rows: {{}}}}, outputs: {{rows: {{}}}}}}
---
kind: Step
metadata: {{name: merge, version: "1"}}
spec: {{run: {{python: "code:merge"}}, inputs: {{rows: {{}}}}, outputs: {{rows: {{}}}}, resources: {{cpus: 0.1}}}}
---
kind: Workflow
metadata: {{name: phases}}
spec:
  inputs: {{rows: {{dataset: rows}}}}
  steps:
    - {{name: prepare, use: work@1, in: {{rows: {{from: inputs.rows, split: {{count: {units}}}}}}}, {limits}, place: {{clusters: [{edge}]}}}}
    - {{name: gathered, use: merge@1, in: {{rows: {{from: prepare.rows, gather: all}}}}, place: {{clusters: [cloud]}}}}
    - {{name: analyse, use: work@1, in: {{rows: {{from: gathered.rows, split: {{count: {units}}}}}}}, {limits}, place: {{clusters: [cloud]}}}}
    - {{name: merged, use: merge@1, in: {{rows: {{from: analyse.rows, gather: all}}}}, place: {{clusters: [{other}]}}}}
    - {{name: tell, use: work@1, in: {{rows: {{from: merged.rows, split: {{count: {units}}}}}}}, {limits}, place: {{clusters: [{other}]}}}}
  policy: {{reserve: {reserve}}}
  outputs: {{rows: tell.rows}}
"""  # noqa: E501


@dataclass
class Figures:
    """What one variant showed; slot-seconds, and seconds."""

    held: float = 0.0
    used: float = 0.0
    lent: float = 0.0
    makespan: float = 0.0
    waited: list[float] = field(default_factory=list)  # of each reserving run: from its submission to its start
    took: list[float] = field(default_factory=list)  # from its start to its end
    others: list[float] = field(default_factory=list)  # of each other run: from its submission to its end
    trace: list[tuple[float, int, int, int]] = field(default_factory=list)  # time, held, used, lent

    @property
    def idle(self) -> float:
        """Held, and not used by the owner."""
        return self.held - self.used

    @property
    def wasted(self) -> float:
        """Held, and used by nobody."""
        return self.held - self.used - self.lent


class Meter:
    """Adds up what is held, used and lent over all clusters, as time passes."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._now: dict[str, tuple[int, int, int]] = {}
        self._since = 0.0

    def changed(self, cluster: Cluster) -> None:
        """A coordinator did something."""
        now = cluster.world.clock.now
        held, used, lent = self._sum()
        self._figures.held += held * (now - self._since)
        self._figures.used += used * (now - self._since)
        self._figures.lent += lent * (now - self._since)
        self._since = now
        told = [each for each in cluster.core.reserved() if not each.half]
        self._now[cluster.name] = (
            sum(each.held for each in told),
            sum(each.used for each in told),
            sum(each.lent for each in told),
        )
        if self._sum() != (held, used, lent):
            self._figures.trace.append((now, *self._sum()))

    def _sum(self) -> tuple[int, int, int]:
        held, used, lent = (sum(column) for column in zip(*self._now.values(), strict=True)) if self._now else (0, 0, 0)
        return held, used, lent


def job(chance: Random, number: int, reserve: str, *, preemptible: bool) -> Job:
    """One run: which edge it begins at alternates, how long its tasks take varies."""
    edge, other = ("edge1", "edge2") if number % 2 == 0 else ("edge2", "edge1")
    limits = f"pool: {{max: {SLOTS}}}, preemptible: {'true' if preemptible else 'false'}"
    text = OBJECTS.format(edge=edge, other=other, reserve=reserve, units=UNITS, limits=limits)
    seconds = {step: chance.uniform(1.0, 3.0) for step in ("prepare", "analyse", "tell")}
    written = Job.written(text, seconds)
    # A definition of its own: pools are shared by runs of one definition, and this is not about pools.
    work = written.request.definitions["work@1"].step
    named = work.model_copy(update={"metadata": work.metadata.model_copy(update={"version": f"1.{number}"})})
    definitions = {**written.request.definitions, "work@1": Definition(named)}
    return replace(written, request=replace(written.request, definitions=definitions))


def measured(variant: str, seed: int) -> Figures:
    """One variant from its first submission to its last end."""
    reserve, preemptible = VARIANTS[variant]
    chance = Random(seed)  # noqa: S311 - a scenario, not a secret
    figures = Figures()
    federation = Federation(CLUSTERS, Meter(figures).changed)
    federation.clock.run(1.0)
    jobs = {}
    for number in range(RUNS):
        jobs[f"reserving-{number}"] = (4.0 * number, job(chance, number, reserve, preemptible=False))
        late = 4.0 * number + 2.0
        jobs[f"other-{number}"] = (late, job(chance, RUNS + number, "none", preemptible=preemptible))
    ends: dict[str, float] = {}

    def note() -> bool:
        for (_, name), run in federation.hub.runs.items():
            if run.state in forms.ENDED:
                ends.setdefault(name, federation.clock.now)
        return len(ends) == len(jobs)

    for name, (when, wanted) in jobs.items():
        federation.clock.at(1.0 + when, lambda name=name, wanted=wanted: federation.hub.submit(name, wanted))  # type: ignore[misc]
    federation.clock.run(3600.0, note)
    figures.makespan = max(ends.values()) - 1.0
    for name, end in ends.items():
        run = federation.hub.runs["default", name]
        assert run.state == model_pb2.RUN_STATE_SUCCEEDED, run.message
        if name.startswith("reserving"):
            figures.waited.append(run.started_at - run.submitted_at)
            figures.took.append(end - run.started_at)
        else:
            figures.others.append(end - run.submitted_at)
    return figures


def mean(values: list[float]) -> float:
    """Their mean."""
    return sum(values) / len(values)


def table(found: dict[str, Figures]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        "| `reserve` of the six runs | slot-seconds held | idle | of that lent | used by nobody "
        "| they wait (s) | then take (s) | the others take (s) | all ended after (s) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {each.held:.0f} | {each.idle:.0f} | {each.lent:.0f} | {each.wasted:.0f} | {mean(each.waited):.1f} "
        f"| {mean(each.took):.1f} | {mean(each.others):.1f} | {each.makespan:.1f} |"
        for name, each in found.items()
    ]
    return "\n".join(lines)


COLOURS: Final = {"used": "#2f6f9f", "lent": "#7fb77e", "idle": "#d9d9d9"}
WIDTH: Final = 720
PANEL: Final = 90
TOP: Final = 40
VISIBLE: Final = 0.3  # pixels


def picture(found: dict[str, Figures]) -> str:
    """Held slots over time, a panel for each variant that holds any: used by their owner, lent, idle."""
    shown = {name: each for name, each in found.items() if each.held}
    longest = max(each.makespan for each in shown.values())
    most = max(held for each in shown.values() for _, held, _, _ in each.trace)
    across, up = (WIDTH - 60) / longest, (PANEL - 30) / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{TOP + PANEL * len(shown) + 20}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, (name, colour) in enumerate(COLOURS.items()):
        words = {"used": "used by their owner", "lent": "lent to others", "idle": "held, used by nobody"}[name]
        parts.append(f'<rect x="{50 + 190 * index}" y="10" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{67 + 190 * index}" y="21">{words}</text>')
    for index, (name, each) in enumerate(shown.items()):
        bottom = TOP + PANEL * (index + 1) - 10
        parts.append(f'<text x="50" y="{bottom - PANEL + 27}">{name}</text>')
        ends = [moment for moment, *_ in each.trace[1:]] + [each.makespan + 1.0]
        for (begin, held, used, lent), end in zip(each.trace, ends, strict=True):
            if (end - begin) * across < VISIBLE:
                continue
            height = 0.0
            for kind, slots in (("used", used), ("lent", lent), ("idle", held - used - lent)):
                if slots:
                    x, wide = 50 + (begin - 1.0) * across, (end - begin) * across
                    top = bottom - (height + slots) * up
                    parts.append(
                        f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide:.2f}" height="{slots * up:.1f}" '
                        f'fill="{COLOURS[kind]}"/>'
                    )
                    height += slots
        parts.append(f'<line x1="50" y1="{bottom}" x2="{WIDTH - 10}" y2="{bottom}" stroke="#444"/>')
        parts.append(f'<text x="45" y="{bottom - most * up + 10:.1f}" text-anchor="end">{most}</text>')
        parts.append(f'<text x="45" y="{bottom}" text-anchor="end">0</text>')
    parts.append(f'<text x="{WIDTH - 10}" y="{TOP + PANEL * len(shown) + 10}" text-anchor="end">{longest:.0f} s</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Measure all variants, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    found = {variant: measured(variant, given.seed) for variant in VARIANTS}
    print(table(found))
    if given.svg:
        given.svg.write_text(picture(found))


if __name__ == "__main__":
    main()
