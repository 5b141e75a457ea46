"""Writes what two regions have sold as Parquet, the same on every machine: 40,000 rows in twenty row groups each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

REGIONS = ("north", "south")
ROWS = 40_000
GROUP = 2_000
PRODUCTS = {"bread": 320, "butter": 410, "coffee": 990, "honey": 750, "salt": 110, "tea": 640}
DATA = Path(__file__).parent / "data"


def rows(region: str) -> Iterator[tuple[str, int, int]]:
    """Of each sale the product, the units and their price in cents, which changes a little from sale to sale."""
    chance = random.Random(region)  # noqa: S311 - nothing is kept secret with it
    names = list(PRODUCTS)
    for _ in range(ROWS):
        product = chance.choice(names)
        yield product, chance.randrange(1, 6), PRODUCTS[product] + chance.randrange(-20, 21)


def main() -> None:
    """Write both regions."""
    for region in REGIONS:
        products, units, cents = zip(*rows(region), strict=True)
        table = pyarrow.table({"product": products, "units": units, "cents": cents})
        path = DATA / region / "sales.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, path, row_group_size=GROUP)


if __name__ == "__main__":
    main()
