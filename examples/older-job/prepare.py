"""Writes what two weather offices have sent, the same on every machine: a zip a day, as they always did."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

OFFICES = {"lakes": ("Zürich", "Genève"), "coast": ("Malmö", "Århus")}
DAYS = ("2024-01-01", "2024-01-02")
DATA = Path(__file__).parent / "data"


def readings(office: str, day: str) -> Iterator[tuple[str, str, int, float]]:
    """Of each station and hour of a day the degrees Fahrenheit."""
    chance = random.Random(f"{office} {day}")  # noqa: S311 - nothing is kept secret with it
    for station in OFFICES[office]:
        for hour in range(24):
            yield station, day, hour, round(chance.uniform(20, 50), 1)


def main() -> None:
    """Write the zips: in each a file for every half of the day, in Latin-1 and with commas in numbers."""
    for office in OFFICES:
        (DATA / office).mkdir(parents=True, exist_ok=True)
        for day in DAYS:
            with zipfile.ZipFile(DATA / office / f"{day}.zip", "w") as archive:
                for half in (0, 1):
                    lines = ["station;day;hour;fahrenheit"] + [
                        f"{station};{when};{hour};{str(degrees).replace('.', ',')}"
                        for station, when, hour, degrees in readings(office, day)
                        if hour // 12 == half
                    ]
                    told = zipfile.ZipInfo(f"{day}-{half}.csv")  # with a time that is always the same
                    archive.writestr(told, "\r\n".join(lines).encode("latin-1"))


if __name__ == "__main__":
    main()
