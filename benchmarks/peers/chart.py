"""Draws results.json as results.svg: one panel for each case, a bar for each engine, on a logarithmic scale.

    chart.py [RESULTS [SVG]]

Colours say what an engine's state survives, in shades that people with any kind of colour vision can tell apart, and
the same is written beside each bar. A line over a bar's end spans the slowest and the quickest repetition.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
WIDTH, ROW, BAR = 900, 30, 18
LEFT, RIGHT = 130, 250  # room for the engines' names, and for what is written beside the bars
SCALE = WIDTH - LEFT - RIGHT
OURS = "bdw-fed"
COLOURS = {"power loss": "#0072b2", "process crash": "#56b4e9", "nothing": "#e69f00"}
INK, FAINT, LINES = "#1a1a1a", "#595959", "#d0d0d0"
NOISY = 0.1
TITLES = {
    "chain": ("Chain: {steps} dependent steps on one unit", "milliseconds per step"),
    "fanout": ("Fanout: {units:,} units through one step", "milliseconds per task"),
}


def main() -> int:
    """Draw; returns 0."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results.json"
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else source.with_suffix(".svg")
    target.write_text(draw(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"drawn in {target}")
    return 0


def draw(report: dict[str, Any]) -> str:
    """The whole picture."""
    marks: list[str] = []
    y = 34
    marks.append(_text(20, y, "What an engine costs for a step that does nothing (less is better)", size=18, bold=True))
    y += 22
    marks += _legend(20, y)
    y += 18
    for case, (title, unit) in TITLES.items():
        rows = [row for row in report["results"] if row["case"] == case]
        if any(row["status"] == "measured" for row in rows):
            drawn, y = _panel(rows, title.format(**report["settings"]), unit, y)
            marks += drawn
    y += 8
    for line in _caption(report):
        y += 17
        marks.append(_text(20, y, line, size=12, colour=FAINT))
    y += 18
    described = "; ".join(
        f"{row['case']} {row['engine']} {_number(row['median_ms'])} ms"
        for row in report["results"]
        if row["status"] == "measured"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img"'
        ' aria-labelledby="title description" font-family="system-ui, sans-serif">'
    )
    return "\n".join(
        [
            head,
            '<title id="title">Milliseconds per step and per task, by engine</title>',
            f'<desc id="description">{escape(described)}</desc>',
            f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>',
            *marks,
            "</svg>\n",
        ]
    )


def _panel(rows: list[dict[str, Any]], title: str, unit: str, y: int) -> tuple[list[str], int]:
    measured = sorted((row for row in rows if row["status"] == "measured"), key=lambda row: float(row["median_ms"]))
    others = [row for row in rows if row["status"] != "measured"]
    low = math.floor(math.log10(min(min(row["samples_ms"]) for row in measured)) - 0.15)
    high = max(low + 1, math.ceil(math.log10(max(max(row["samples_ms"]) for row in measured))))

    def across(milliseconds: float) -> float:
        return LEFT + SCALE * (math.log10(milliseconds) - low) / (high - low)

    y += 34
    marks = [_text(20, y, title, size=15, bold=True), _text(WIDTH - 20, y, unit, colour=FAINT, anchor="end")]
    top = y + 12
    bottom = top + ROW * (len(measured) + len(others))
    for power in range(low, high + 1):
        x = across(10.0**power)
        marks.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{LINES}"/>')
        marks.append(_text(x, bottom + 16, f"{10.0**power:g}", size=12, colour=FAINT, anchor="middle"))
    for number, row in enumerate(measured + others):
        marks += _row(row, top + ROW * number, across)
    return marks, bottom + 22


def _row(row: dict[str, Any], y: int, across: Any) -> list[str]:
    ours = row["engine"] == OURS
    middle = y + ROW / 2
    marks = [_text(LEFT - 10, middle + 5, row["engine"], bold=ours, anchor="end")]
    if row["status"] != "measured":
        return [*marks, _text(LEFT + 8, middle + 5, f"not measured ({row['status']})", size=12, colour=FAINT)]
    end, least, most = (across(value) for value in (row["median_ms"], min(row["samples_ms"]), max(row["samples_ms"])))
    frame = f' stroke="{INK}" stroke-width="2"' if ours else ""
    marks.append(
        f'<rect x="{LEFT}" y="{middle - BAR / 2:g}" width="{end - LEFT:.1f}" height="{BAR}"'
        f' fill="{COLOURS[row["keeps"]]}"{frame}/>'
    )
    marks.append(
        f'<path d="M{least:.1f} {middle:g}H{most:.1f}M{least:.1f} {middle - 4:g}v8M{most:.1f} {middle - 4:g}v8"'
        f' stroke="{INK}" stroke-width="1.5" fill="none"/>'
    )
    beside = max(end, most) + 8
    said = f'<tspan font-weight="600">{_number(row["median_ms"])}</tspan><tspan dx="8" font-size="12" fill="{FAINT}">'
    said += f"{escape(_survives(row['keeps']))}</tspan>"
    marks.append(f'<text x="{beside:.1f}" y="{middle + 5:g}" font-size="14" fill="{INK}">{said}</text>')
    return marks


def _legend(x: int, y: int) -> list[str]:
    marks = []
    for keeps, colour in COLOURS.items():
        words = f"state: {_survives(keeps)}"
        marks.append(f'<rect x="{x}" y="{y - 11}" width="14" height="14" fill="{colour}"/>')
        marks.append(_text(x + 20, y + 1, words, size=13))
        x += 20 + 7 * len(words) + 18
    return marks


def _survives(keeps: str) -> str:
    return "in memory only" if keeps == "nothing" else f"survives {keeps}"


def _caption(report: dict[str, Any]) -> list[str]:
    machine, settings = report["machine"], report["settings"]
    lines = [
        f"Median of {settings['repetitions']} repetitions after a warm-up; the line spans the quickest and the slowest."
        " Logarithmic scale: bars don't begin at 0.",
        f"{machine['cpus']} × {machine['processor']}, {machine['system']}, Python {machine['python']},"
        f" {machine['file_system']} (a sync takes {machine['sync_ms']:g} ms), {report['date']}.",
    ]
    versions = {row["engine"]: row["version"] for row in report["results"] if row.get("version")}
    if versions:
        lines.append(", ".join(f"{engine} {version}" for engine, version in versions.items()) + ".")
    if any(row.get("others_cpu", 0) > NOISY for row in report["results"]):
        lines.append("Indicative only: other programs were busy on this machine.")
    return lines


def _number(milliseconds: float) -> str:
    """Three significant digits, without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(milliseconds)))
    return f"{milliseconds:.{digits}f}"


def _text(
    x: float, y: float, words: str, *, size: int = 14, colour: str = INK, bold: bool = False, anchor: str = "start"
) -> str:
    weight = ' font-weight="700"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>'
        f"{escape(words)}</text>"
    )


if __name__ == "__main__":
    sys.exit(main())
