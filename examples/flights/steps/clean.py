"""Clean one piece of the flights table: check every row and keep what the question needs.

In: `rows`, CSV with a header, at least the columns origin, dep_delay and time_hour.
Out: `rows`, CSV `airport,time_hour,dep_delay`; the delay is whole minutes, empty where the flight never left.
"""

from __future__ import annotations

import csv
from pathlib import Path

NEEDED = ("origin", "time_hour", "dep_delay")


def main(rows: Path, out: dict[str, Path]) -> None:
    """Raises ValueError naming line and column where a row is not as expected."""
    with rows.open(newline="") as source, out["rows"].open("w", newline="") as target:
        reader = csv.reader(source)
        header = next(reader, [])
        missing = [column for column in NEEDED if column not in header]
        if missing:
            raise ValueError(f"{rows.name}: the header lacks {', '.join(missing)}; it has {', '.join(header)}")
        origin, time_hour, dep_delay = (header.index(column) for column in NEEDED)
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["airport", "time_hour", "dep_delay"])
        for row in reader:
            place = f"{rows.name}, line {reader.line_num}"
            if len(row) != len(header):
                raise ValueError(f"{place}: expected {len(header)} columns, found {len(row)}")
            if not row[origin] or not row[time_hour]:
                raise ValueError(f"{place}: origin and time_hour must not be empty")
            writer.writerow([row[origin], row[time_hour], whole_minutes(row[dep_delay], place)])


def whole_minutes(text: str, place: str) -> int | str:
    """The delay, or an empty cell where there is none."""
    if text in ("", "NA"):
        return ""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{place}: dep_delay must be whole minutes or NA, not {text!r}") from None
