"""Fourth: degrees Celsius."""

import csv
from pathlib import Path

from engine import serve


def transform(file: Path, out: Path, digits: str) -> None:
    """The same lines with so many digits behind the point."""
    with file.open(encoding="utf-8", newline="") as opened:
        _, *rows = csv.reader(opened)
    with (out / file.name).open("w", encoding="utf-8", newline="") as written:
        lines = csv.writer(written, lineterminator="\n")
        lines.writerow(["station", "day", "hour", "celsius"])
        for station, day, hour, fahrenheit in rows:
            lines.writerow([station, day, hour, f"{(float(fahrenheit) - 32) / 1.8:.{int(digits)}f}"])


serve(transform)
