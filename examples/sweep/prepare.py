"""Writes what a sensor measured: a cubic curve with noise, the same on every machine."""

from __future__ import annotations

import random
from pathlib import Path

DATA = Path(__file__).parent / "data"
chance = random.Random(7)  # noqa: S311 - nothing is kept secret with it
DATA.mkdir(exist_ok=True)
with (DATA / "measured.csv").open("w") as file:
    file.write("x,y\n")
    for number in range(400):
        x = number / 200 - 1
        file.write(f"{x:.4f},{0.5 - 2 * x + 3 * x**3 + chance.gauss(0, 0.1):.4f}\n")
