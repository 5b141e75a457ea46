"""Writes the logs of two web servers, the same on every machine: ten thousand requests of a day each."""

from __future__ import annotations

import random
from pathlib import Path

REQUESTS = 10_000
PATHS = ("/", "/search", "/cart", "/pay", "/help")
DATA = Path(__file__).parent / "data"


def lines(seed: int) -> list[str]:
    """Requests in the order of their time: when, what, how it went, and how many milliseconds it took."""
    chance = random.Random(seed)  # noqa: S311 - nothing is kept secret with it
    found = []
    for second in sorted(chance.randrange(86_400) for _ in range(REQUESTS)):
        path = chance.choice(PATHS)
        busy = 3 if 18 <= second // 3600 < 21 else 1  # the evening
        failed = path == "/pay" and chance.random() < 0.02 * busy
        status = 500 if failed else 404 if chance.random() < 0.01 else 200
        took = int(chance.expovariate(1 / (40 * busy))) + 1
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        found.append(f"{clock} GET {path} {status} {took}")
    return found


for seed, site in enumerate(("east", "west")):
    (DATA / site).mkdir(parents=True, exist_ok=True)
    (DATA / site / "access.log").write_text("\n".join(lines(seed)) + "\n")
