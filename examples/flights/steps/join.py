"""Give every flight the band of wind that blew at its airport in its hour.

In: `rows`, CSV `airport,time_hour,dep_delay`, and `weather`, the airport's weather with origin, time_hour
and wind_speed (mph), in one file or several. Out: `rows`, CSV `airport,wind_band,dep_delay`, as many rows as
came in.

Where the weather has several rows for one airport and hour, the first that states a wind speed counts, in
the order of the files and their rows. A flight whose hour has no such row is in the band `unknown`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

BANDS = ((5, "0-5"), (10, "5-10"), (15, "10-15"), (20, "15-20"))


def main(rows: Path, weather: Path | list[Path], out: dict[str, Path]) -> None:
    """Raises ValueError where a wind speed is not a number of at least 0, or a column is missing."""
    wind = bands_by_hour([weather] if isinstance(weather, Path) else weather)
    with rows.open(newline="") as source, out["rows"].open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["airport", "wind_band", "dep_delay"])
        for row in csv.DictReader(source):
            band = wind.get((row["airport"], row["time_hour"]), "unknown")
            writer.writerow([row["airport"], band, row["dep_delay"]])


def bands_by_hour(files: Iterable[Path]) -> dict[tuple[str, str], str]:
    """The band of wind by airport and hour, for the hours whose wind speed is known."""
    known: dict[tuple[str, str], str] = {}
    for file in files:
        with file.open(newline="") as source:
            reader = csv.DictReader(source)
            missing = {"origin", "time_hour", "wind_speed"}.difference(reader.fieldnames or ())
            if missing:
                raise ValueError(f"{file.name}: the header lacks {', '.join(sorted(missing))}")
            for row in reader:
                if row["wind_speed"] not in ("", "NA"):
                    place = f"{file.name}, line {reader.line_num}"
                    known.setdefault((row["origin"], row["time_hour"]), band_of(row["wind_speed"], place))
    return known


def band_of(speed: str, place: str) -> str:
    """The band of a wind speed; the lower end of a band belongs to it."""
    try:
        mph = float(speed)
    except ValueError:
        raise ValueError(f"{place}: wind_speed must be a number or NA, not {speed!r}") from None
    if not mph >= 0:
        raise ValueError(f"{place}: wind_speed must be at least 0, not {speed}")
    return next((name for below, name in BANDS if mph < below), "20+")
