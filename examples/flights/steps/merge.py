"""Add up the sums of all pieces of all airports into one table.

In: `parts`, any number of CSV files `airport,wind_band,flights,cancelled,delay,late`. Out: `table`, one file
of the same shape with one row for each airport and band, sorted by their names.
"""

from __future__ import annotations

import csv
from pathlib import Path

KEYS = ("airport", "wind_band")
SUMS = ("flights", "cancelled", "delay", "late")


def main(parts: Path | list[Path], out: dict[str, Path]) -> None:
    """Raises ValueError where a part does not have the expected columns."""
    totals: dict[tuple[str, ...], list[int]] = {}
    for part in [parts] if isinstance(parts, Path) else parts:
        with part.open(newline="") as source:
            reader = csv.DictReader(source)
            if tuple(reader.fieldnames or ()) != KEYS + SUMS:
                raise ValueError(f"{part.name}: expected the columns {','.join(KEYS + SUMS)}")
            for row in reader:
                total = totals.setdefault(tuple(row[key] for key in KEYS), [0] * len(SUMS))
                for index, name in enumerate(SUMS):
                    total[index] += int(row[name])
    with out["table"].open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(KEYS + SUMS)
        writer.writerows([*key, *totals[key]] for key in sorted(totals))
