"""Third: a file for each station."""

import csv
from pathlib import Path

from engine import serve


def split(file: Path, out: Path) -> None:
    """The lines of each station, below the header."""
    with file.open(encoding="utf-8", newline="") as opened:
        header, *rows = csv.reader(opened)
    for station in {row[0] for row in rows}:
        with (out / f"{station}.csv").open("w", encoding="utf-8", newline="") as written:
            csv.writer(written, lineterminator="\n").writerows([header, *(row for row in rows if row[0] == station)])


serve(split)
