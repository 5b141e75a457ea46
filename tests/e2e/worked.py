"""The worked examples in somebody else's federation, and what each has to make by a way of its own.

`lay_out` puts an example's files below a topology's directory, makes its data, and tells its datasets: what lies at its
first edge lies at edge1, at its second at edge2, in its cloud at cloud1. `CHECKS` works out from the same files what
must come of the workflow, without its steps.
"""

from __future__ import annotations

import csv
import io
import re
import runpy
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
PLACE = "worked"
_CLUSTERS: Mapping[str, tuple[str, ...]] = {"edge": ("edge1", "edge2"), "cloud": ("cloud1",)}
_PAINTS: Mapping[str, str] = {  # those of the pictures, and what each is called
    "191970": "blue",
    "228b22": "green",
    "708090": "grey",
    "87ceeb": "sky",
    "8b0000": "red",
    "deb887": "sand",
    "f5f5dc": "white",
    "ff8c00": "orange",
    "ffffff": "white",
}
Outputs = dict[str, bytes]


def lay_out(directory: Path) -> list[dict[str, Any]]:
    """All of them in `directory`. Returns the datasets, with paths relative to it."""
    datasets: list[dict[str, Any]] = []
    for name in CHECKS:
        place = directory / PLACE / name
        shutil.copytree(EXAMPLES / name, place, ignore=shutil.ignore_patterns("data", "results", "__pycache__"))
        if (place / "prepare.py").exists():
            subprocess.run([sys.executable, str(place / "prepare.py")], check=True)
        spec = yaml.safe_load((place / "topology.yaml").read_text())["spec"]
        tiers = {zone["name"]: zone["tier"] for zone in spec["zones"]}
        free = {tier: iter(clusters) for tier, clusters in _CLUSTERS.items()}
        named = {cluster["name"]: next(free[tiers[cluster["zone"]]]) for cluster in spec["clusters"]}
        for dataset in spec["datasets"]:
            parts = [{"at": named[part["at"]], "path": f"{PLACE}/{name}/{part['path']}"} for part in dataset["parts"]]
            datasets.append({"name": dataset["name"], "parts": parts})
    return datasets


def _table(rows: list[list[object]]) -> bytes:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue().encode()


def _word_count(place: Path, made: Outputs) -> None:
    words: Counter[str] = Counter()
    for text in place.glob("texts/*/*.txt"):
        words.update(re.findall("[a-z]+", text.read_text().lower()))
    ranked = sorted((-times, word) for word, times in words.items() if times >= 4)
    assert made == {"words.csv": _table([["word", "times"], *([word, -times] for times, word in ranked)])}


def _web_logs(place: Path, made: Outputs) -> None:
    hours: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for log in place.glob("data/*/access.log"):
        for line in log.read_text().splitlines():
            hours[line[:2]].append((line.split()[3], int(line.split()[4])))
    rows: list[list[object]] = [["hour", "requests", "errors", "p95_ms"]]
    for hour, requests in sorted(hours.items()):
        took = sorted(milliseconds for _, milliseconds in requests)
        at, part = divmod(19 * (len(took) + 1), 20)
        p95 = (took[at - 1] * (20 - part) + took[at] * part) / 20
        rows.append([hour, len(took), sum(status == "500" for status, _ in requests), round(p95)])
    assert len(rows) == 25
    assert made == {"hours.csv": _table(rows)}


def _sweep(place: Path, made: Outputs) -> None:
    x, y = np.loadtxt(place / "data" / "measured.csv", delimiter=",", skiprows=1, unpack=True)

    def error(degree: int) -> float:
        fit = np.polynomial.Polynomial.fit(x[::2], y[::2], degree)
        return float(np.mean((y[1::2] - fit(x[1::2])) ** 2))

    best = np.polynomial.Polynomial.fit(x, y, min(range(1, 6), key=error)).convert().coef
    assert made == {"curve.txt": "".join(f"x^{power} {each:.2f}\n" for power, each in enumerate(best)).encode()}


def _parquet_report(place: Path, made: Outputs) -> None:
    prepare = runpy.run_path(str(place / "prepare.py"))
    found: dict[str, list[int]] = {}
    for region in prepare["REGIONS"]:
        for product, units, cents in prepare["rows"](region):
            sums = found.setdefault(product, [0, 0, 0])
            found[product] = [sums[0] + 1, sums[1] + units, sums[2] + units * cents]
    ranked = sorted(found.items(), key=lambda item: -item[1][2])
    rows = [[product, sales, units, f"{cents / 100:.2f}"] for product, (sales, units, cents) in ranked]
    assert made == {"sales.csv": _table([["product", "sales", "units", "revenue"], *rows])}


def _thumbnails(place: Path, made: Outputs) -> None:
    prepare = runpy.run_path(str(place / "prepare.py"))
    rows: list[list[object]] = [["title", "width", "height", "colour"]]
    cells = []
    for camera in prepare["CAMERAS"]:
        for number in range(prepare["PICTURES"]):
            with Image.open(place / "data" / camera / f"{number}.png") as picture:
                small = picture.convert("RGB").resize((96, 64), Image.Resampling.NEAREST)
            colours: Counter[str] = Counter()
            for count, colour in small.getcolors(96 * 64) or ():
                assert isinstance(colour, tuple)
                colours[_PAINTS[bytes(int(part) for part in colour).hex()]] += count
            rows.append([f"{camera}-{number}", *prepare["SIZE"], max(colours, key=lambda name: colours[name])])
            cells.append(small)
    assert set(made) == {"index.csv", "sheet.png"}
    assert made["index.csv"] == _table(rows)
    with Image.open(io.BytesIO(made["sheet.png"])) as sheet:
        assert sheet.size == (4 * 96, 3 * 64)
        for number, cell in enumerate(cells):
            left, top = number % 4 * 96, number // 4 * 64
            assert sheet.crop((left, top, left + 96, top + 64)).tobytes() == cell.tobytes()


def _older_job(place: Path, made: Outputs) -> None:
    prepare = runpy.run_path(str(place / "prepare.py"))
    readings = {
        (station, day, hour, float(f"{(fahrenheit - 32) * 5 / 9:.2f}"))
        for office in prepare["OFFICES"]
        for day in prepare["DAYS"]
        for station, day, hour, fahrenheit in prepare["readings"](office, day)
    }
    assert set(made) == {"readings.db"}
    database = sqlite3.connect(":memory:")
    database.deserialize(made["readings.db"])
    assert set(database.execute("select station, day, hour, celsius from readings")) == readings
    database.close()


CHECKS: Mapping[str, Callable[[Path, Outputs], None]] = {
    "older-job": _older_job,
    "parquet-report": _parquet_report,
    "sweep": _sweep,
    "thumbnails": _thumbnails,
    "web-logs": _web_logs,
    "word-count": _word_count,
}
