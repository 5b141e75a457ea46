"""Steps that take and return values."""

from pathlib import Path
from typing import TypedDict


class Sum(TypedDict):
    """What one unit comes to."""

    sum: int
    count: int


def subtotal(rows: str) -> Sum:
    """The sum and the count of the numbers of one unit, below a header."""
    numbers = [int(line) for line in rows.splitlines()[1:]]
    return {"sum": sum(numbers), "count": len(numbers)}


async def total(sums: list[Sum], unit: str, out: dict[str, Path]) -> dict[str, object]:
    """All added up: as a value, in words, and in a file."""
    added = sum(one["sum"] for one in sums)
    out["file"].write_text(f"{added} in {len(sums)}\n")
    return {"total": added, "words": f"{sum(one['count'] for one in sums)} {unit}\n"}


def stretch(number: int, times: int) -> bytes:
    """More than travels with a task."""
    return b"%d\n" % number * times


def nothing(seed: int) -> None:
    """Forgets to return its output."""


def mean(units: list[str]) -> dict[str, object]:
    """The mean of all numbers, and what they are."""
    numbers = [int(line) for unit in units for line in unit.splitlines()[1:]]
    return {"mean": sum(numbers) / len(numbers), "words": "numbers"}


def above(rows: str, least: float) -> int:
    """How many numbers of one unit are larger."""
    return sum(int(line) > least for line in rows.splitlines()[1:])


def tell(counts: list[int], least: float, unit: str) -> str:
    """How many there are in all."""
    return f"{sum(counts)} {unit} above {least}\n"


def size_in_words(seed: str) -> str:
    """Not a number."""
    return "seven"


def of_size(seed: str, size: int) -> str:
    """Never called."""
    return seed * size
