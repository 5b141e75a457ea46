"""Sales: summed up in one part of a table, and these sums added up as a report."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.parquet

COLUMNS = ("sales", "units", "cents")


def sums(rows: Path, out: dict[str, Path]) -> None:
    """Of each product how many sales there are in some row groups, of how many units, for how many cents."""
    table = pyarrow.parquet.read_table(rows)
    cents = pyarrow.compute.multiply(table["units"], table["cents"])
    one = pyarrow.array([1] * len(table), pyarrow.int64())
    each = pyarrow.table({"product": table["product"], "sales": one, "units": table["units"], "cents": cents})
    pyarrow.parquet.write_table(_added(each), out["sums"])


def report(sums: Path, out: dict[str, Path]) -> None:
    """One line a product, the one that brings in most first; `sums` is one table of the sums of all parts."""
    with out["table"].open("w", newline="") as file:
        written = csv.writer(file, lineterminator="\n")
        written.writerow(["product", "sales", "units", "revenue"])
        for row in sorted(_added(pyarrow.parquet.read_table(sums)).to_pylist(), key=lambda row: -row["cents"]):
            written.writerow([row["product"], row["sales"], row["units"], f"{row['cents'] / 100:.2f}"])


def _added(table: pyarrow.Table) -> pyarrow.Table:
    added = table.group_by("product").aggregate([(name, "sum") for name in COLUMNS]).sort_by("product")
    return added.select(["product", *(f"{name}_sum" for name in COLUMNS)]).rename_columns(["product", *COLUMNS])
