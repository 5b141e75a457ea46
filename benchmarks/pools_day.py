"""Draws a simulated day of two pools: what waits at each step, and which workers there are.

Run it as `python -m benchmarks.pools_day docs/pictures/pools-day.svg`. The day is lived by the autoscaler itself in
virtual time (`simulator.pools`); the lower half shows one burst of it closely.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from cluster_agent.pools.core import Limits
from simulator.pools import Day, Sample, Step, bursts

START, SERVICES = 5.0, (20.0, 5.0)
WIDTH, HEIGHT, LEFT, RIGHT, GAP = 960, 120, 64, 16, 34
COLOURS = {"waiting": "#c2410c", "busy": "#1d4ed8", "idle": "#93c5fd", "starting": "#a3a3a3"}


def main() -> None:
    """Live the day and write the picture."""
    limits = Limits(0, 0, 60.0, 1.0, 0)
    steps = [Step("clean", SERVICES[0], limits), Step("join", SERVICES[1], limits)]
    day = Day(steps, nodes=4, cpus=8, start=START, prior=START, seed=1)
    arrivals = bursts(hours=24, quiet=0.002, busy=0.05, every=9000, size=60, seed=2)
    day.run(arrivals)
    burst = _busiest(arrivals)
    panels: list[str] = []
    top = 46
    for title, begin, end in (("The day", 0.0, 86_400.0), ("One burst", burst - 15.0, burst + 150.0)):
        panels.append(f'<text x="{LEFT}" y="{top}" class="title">{title}</text>')
        top += 14
        for step in steps:
            panels.append(_panel(step.name, day.samples[step.name], begin, end, top))
            top += HEIGHT + GAP
        top += 18
    longest = max(waited.began - waited.came for waited in day.waits if waited.room)
    caption = (
        f"{len(arrivals)} units through two steps of {SERVICES[0]:g} s and {SERVICES[1]:g} s; a worker takes "
        f"{START:g} s to start; 32 slots. Longest wait where there was room: {longest:.1f} s."
    )
    Path(sys.argv[1]).write_text(_svg(panels, top, caption))
    print(caption)


def _busiest(arrivals: list[float]) -> float:
    """When the largest burst begins."""
    return max(arrivals, key=lambda at: sum(at <= other < at + 3.0 for other in arrivals))


def _panel(step: str, samples: list[Sample], begin: float, end: float, top: int) -> str:
    seen = [sample for sample in samples if begin <= sample.at < end]
    before = [sample for sample in samples if sample.at < begin]
    first = before[-1] if before else Sample(begin, 0, 0, 0, 0)
    seen = [Sample(begin, first.waiting, first.busy, first.idle, first.starting), *_thinned(seen, begin, end)]
    highest = max(4, *(_height(one) for one in seen))
    width = WIDTH - LEFT - RIGHT

    def x(at: float) -> float:
        return LEFT + (at - begin) / (end - begin) * width

    def y(count: float) -> float:
        return top + HEIGHT - count / highest * HEIGHT

    parts = [
        f'<rect x="{LEFT}" y="{top}" width="{width}" height="{HEIGHT}" class="frame"/>',
        f'<text x="{LEFT + 6}" y="{top + 14}" class="step">{step}</text>',
        f'<text x="{LEFT - 6}" y="{top + 9}" class="tick" text-anchor="end">{highest}</text>',
        f'<text x="{LEFT - 6}" y="{top + HEIGHT}" class="tick" text-anchor="end">0</text>',
    ]
    below = _stacked()
    for names in (("busy",), ("busy", "idle"), ("busy", "idle", "starting")):
        upper, name = _stacked(*names), names[-1]
        points = _stairs(seen, end, upper)
        parts.append(_area(points, _stairs(seen, end, below), x, y, COLOURS[name]))
        below = upper
    line = " ".join(f"{x(at):.1f},{y(count):.1f}" for at, count in _stairs(seen, end, lambda one: one.waiting))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS["waiting"]}" stroke-width="1.2"/>')
    hours = end - begin > 7200
    for tick in range(7):
        at = begin + (end - begin) * tick / 6
        label = f"{at / 3600:.0f} h" if hours else f"{at - begin - 15:.0f} s"
        parts.append(f'<text x="{x(at):.0f}" y="{top + HEIGHT + 13}" class="tick" text-anchor="middle">{label}</text>')
    return "\n".join(parts)


def _stacked(*names: str) -> Callable[[Sample], int]:
    return lambda one: sum(getattr(one, name) for name in names)


def _thinned(samples: Iterable[Sample], begin: float, end: float) -> list[Sample]:
    """Of the samples that share a pixel the highest, and the last, which holds until the next."""
    kept: dict[int, tuple[Sample, Sample]] = {}
    for sample in samples:
        pixel = int((sample.at - begin) / (end - begin) * WIDTH)
        highest, _ = kept.get(pixel, (sample, sample))
        kept[pixel] = (max(highest, sample, key=_height), sample)
    return [sample for highest, last in kept.values() for sample in (highest, last)]


def _height(sample: Sample) -> int:
    return max(sample.waiting, sample.busy + sample.idle + sample.starting)


def _stairs(samples: Iterable[Sample], end: float, count: Callable[[Sample], int]) -> list[tuple[float, int]]:
    """The corners of a line that changes at once, where it changes."""
    corners: list[tuple[float, int]] = []
    for sample in samples:
        fresh = count(sample)
        if corners and corners[-1][1] == fresh:
            continue
        if corners:
            corners.append((sample.at, corners[-1][1]))
        corners.append((sample.at, fresh))
    return [*corners, (end, corners[-1][1])]


def _area(
    upper: list[tuple[float, int]],
    lower: list[tuple[float, int]],
    x: Callable[[float], float],
    y: Callable[[float], float],
    colour: str,
) -> str:
    points = " ".join(f"{x(at):.1f},{y(count):.1f}" for at, count in [*upper, *reversed(lower)])
    return f'<polygon points="{points}" fill="{colour}"/>'


def _svg(panels: list[str], height: int, caption: str) -> str:
    names = {"waiting": "units waiting", "busy": "busy workers", "idle": "idle workers", "starting": "starting workers"}
    legend = []
    for index, (name, text) in enumerate(names.items()):
        left = LEFT + 250 + index * 160
        legend.append(f'<rect x="{left}" y="12" width="12" height="12" fill="{COLOURS[name]}"/>')
        legend.append(f'<text x="{left + 18}" y="22" class="tick">{text}</text>')
    style = (
        "text{font-family:sans-serif;fill:#262626}.title{font-size:15px;font-weight:600}"
        ".step{font-size:12px;font-weight:600}.tick{font-size:11px}.frame{fill:#fafafa;stroke:#d4d4d4}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 10}" role="img">',
            f"<title>Pools over a day</title><desc>{caption}</desc><style>{style}</style>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *legend,
            *panels,
            f'<text x="{LEFT}" y="{height - 6}" class="tick">{caption}</text>',
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    main()
