"""Turn the sums into what a reader wants: a table of shares and means, and a chart of delay against wind.

In: `sums`, CSV `airport,wind_band,flights,cancelled,delay,late`. Parameter `late_minutes` only names what the
sums already counted. Out: `table`, CSV `airport,wind_band,flights,cancelled,mean_dep_delay,share_late`, sorted
by airport and then from calm to windy, and `chart`, an SVG with a line for each airport.

Means and shares are over the flights that left. They are rounded once, here, from exact fractions, half to
even; a group in which none left has empty cells.
"""

from __future__ import annotations

import csv
from fractions import Fraction
from html import escape
from pathlib import Path
from typing import NamedTuple

BANDS = ("0-5", "5-10", "10-15", "15-20", "20+", "unknown")
# Okabe and Ito's colours, told apart with any colour vision; each airport has a mark of its own as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = (
    '<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
    '<rect x="{x:.1f}" y="{y:.1f}" width="9" height="9" transform="translate(-4.5 -4.5)"/>',
    '<path d="M0-6 6 5H-6Z" transform="translate({x:.1f} {y:.1f})"/>',
)
WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 730, 96, 390


class Group(NamedTuple):
    """The flights of one airport in one band of wind; `delay` is the sum of their minutes."""

    airport: str
    band: str
    flights: int
    cancelled: int
    delay: int
    late: int

    @property
    def left(self) -> int:
        """How many flights left."""
        return self.flights - self.cancelled


def main(sums: Path, late_minutes: int, out: dict[str, Path]) -> None:
    """Raises ValueError where a band has a name that is not in BANDS."""
    groups = read(sums)
    with out["table"].open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["airport", "wind_band", "flights", "cancelled", "mean_dep_delay", "share_late"])
        for group in groups:
            mean, share = ratio(group.delay, group.left, 3), ratio(group.late, group.left, 4)
            writer.writerow([group.airport, group.band, group.flights, group.cancelled, mean, share])
    out["chart"].write_text(chart(groups, late_minutes))


def read(sums: Path) -> list[Group]:
    """The groups of a file, sorted by airport, then from calm to windy."""
    with sums.open(newline="") as source:
        rows = csv.reader(source)
        next(rows)
        groups = [Group(row[0], row[1], *map(int, row[2:])) for row in rows]
    unknown = {group.band for group in groups}.difference(BANDS)
    if unknown:
        raise ValueError(f"{sums.name}: unknown wind bands {sorted(unknown)}; expected {', '.join(BANDS)}")
    return sorted(groups, key=lambda group: (group.airport, BANDS.index(group.band)))


def ratio(part: int, whole: int, digits: int) -> str:
    """part / whole with so many digits after the point, rounded half to even; empty where whole is 0."""
    if whole == 0:
        return ""
    scaled = round(Fraction(part * 10**digits, whole))
    units, rest = divmod(abs(scaled), 10**digits)
    return f"{'-' if scaled < 0 else ''}{units}.{rest:0{digits}}"


def chart(groups: list[Group], late_minutes: int) -> str:
    """The chart: mean delay of the flights that left, over bands of wind. The unknown band is not drawn."""
    shown = BANDS[:-1]
    drawn = [group for group in groups if group.band in shown and group.left]
    means = {(group.airport, group.band): group.delay / group.left for group in drawn}
    low, high, step = scale([0.0, *means.values()])
    left = sum(group.left for group in drawn)
    late = sum(group.late for group in drawn)
    share = f"; {late / left:.0%} of them more than {late_minutes} minutes late" if left else ""

    def across(index: int) -> float:
        return LEFT + (RIGHT - LEFT) * (index + 0.5) / len(shown)

    def up(minutes: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (minutes - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222" role="img">',
        "<title>Departure delay against wind, by airport</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        '<text x="20" y="30" font-size="19" font-weight="bold">Departure delay against wind</text>',
        f'<text x="20" y="51" fill="#555">{left:,} flights that left, with known wind{share}</text>',
    ]
    for tick in range(round((high - low) / step) + 1):
        minutes = low + tick * step
        colour = "#888" if minutes == 0 else "#e3e3e3"
        parts.append(f'<path d="M{LEFT} {up(minutes):.1f}H{RIGHT}" stroke="{colour}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(minutes) + 4:.1f}" text-anchor="end">{minutes:g}</text>')
    for index, band in enumerate(shown):
        parts.append(f'<text x="{across(index):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{band}</text>')
    middle = (TOP + BOTTOM) / 2
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 44}" text-anchor="middle">wind speed, mph</text>')
    parts.append(
        f'<text transform="translate(24 {middle}) rotate(-90)" text-anchor="middle">'
        "mean departure delay, minutes</text>"
    )
    for number, airport in enumerate(sorted({group.airport for group in drawn})):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        points = [
            (across(index), up(means[airport, band])) for index, band in enumerate(shown) if (airport, band) in means
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        legend = LEFT + 90 * number
        parts += [
            f'<g fill="{colour}" stroke="#fff">',
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>',
            *(mark.format(x=x, y=y) for x, y in points),
            f'<path d="M{legend} 74h28" stroke="{colour}" stroke-width="2.5"/>',
            mark.format(x=legend + 14, y=74),
            "</g>",
            f'<text x="{legend + 36}" y="78.5">{escape(airport)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def scale(values: list[float]) -> tuple[float, float, float]:
    """Lowest and highest value of an axis that holds all values, and the step between its lines."""
    span = max(values) - min(values) or 1.0
    step = next(size for size in (0.5, 1, 2, 5, 10, 20, 50, 100, 1e3, 1e4, 1e9) if span / size <= 7)
    return step * (min(values) // step), step * -(-max(values) // step) or step, step
