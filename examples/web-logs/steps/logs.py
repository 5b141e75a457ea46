"""From lines of web servers' logs to a figure for each hour of the day."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from statistics import quantiles


def by_hour(lines: Path, out: dict[str, Path]) -> None:
    """A file for each hour: hour, status and milliseconds of its requests."""
    hours: defaultdict[str, list[str]] = defaultdict(list)
    for line in lines.read_text().splitlines():
        clock, _, _, status, took = line.split()
        hours[clock[:2]].append(f"{clock[:2]},{status},{took}\n")
    out["hours"].mkdir()
    for hour, rows in hours.items():
        (out["hours"] / f"{hour}.csv").write_text("".join(rows))


def summary(requests: list[Path], out: dict[str, Path]) -> None:
    """One row of one hour, over all servers: requests, errors, and what 95 of 100 took at most."""
    rows = [row.split(",") for path in requests for row in path.read_text().splitlines()]
    hour, took = rows[0][0], sorted(int(milliseconds) for _, _, milliseconds in rows)
    errors = sum(status == "500" for _, status, _ in rows)
    with out["row"].open("w", newline="") as file:
        written = csv.writer(file, lineterminator="\n")
        written.writerow(["hour", "requests", "errors", "p95_ms"])
        written.writerow([hour, len(rows), errors, round(quantiles(took, n=20)[-1])])
