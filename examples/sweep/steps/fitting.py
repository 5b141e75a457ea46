"""Polynomials through measured points: how well each degree does, and the coefficients of the best."""

from __future__ import annotations

import csv
from fractions import Fraction

Fit = dict[str, float | int]


def points(rows: str) -> list[tuple[float, float]]:
    """The points of a table with the columns x and y."""
    return [(float(row["x"]), float(row["y"])) for row in csv.DictReader(rows.splitlines())]


def coefficients(rows: list[tuple[float, float]], degree: int) -> list[float]:
    """Least squares: the coefficients of 1, x, x², …, solved exactly."""
    size = degree + 1
    zero = Fraction()
    powers = [sum((Fraction(x) ** power for x, _ in rows), zero) for power in range(2 * size - 1)]
    right = [sum((Fraction(y) * Fraction(x) ** power for x, y in rows), zero) for power in range(size)]
    matrix: list[list[Fraction]] = [
        [powers[row + column] for column in range(size)] + [right[row]] for row in range(size)
    ]
    for column in range(size):
        pivot = next(row for row in range(column, size) if matrix[row][column])
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        matrix[column] = [value / matrix[column][column] for value in matrix[column]]
        for row in range(size):
            if row != column:
                factor = matrix[row][column]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[column], strict=True)]
    return [float(row[-1]) for row in matrix]


def score(rows: str, degree: int) -> Fit:
    """Fit to every other point, and tell how far off the others are."""
    known = points(rows)
    found = coefficients(known[::2], degree)
    off = [y - sum(each * x**power for power, each in enumerate(found)) for x, y in known[1::2]]
    return {"degree": degree, "error": sum(each * each for each in off) / len(off)}


def best(fits: list[Fit]) -> int:
    """The degree with the smallest error."""
    return int(min(fits, key=lambda fit: fit["error"])["degree"])


def curve(rows: str, degree: int) -> str:
    """The coefficients of that degree, through all points."""
    return "".join(f"x^{power} {value:.2f}\n" for power, value in enumerate(coefficients(points(rows), degree)))
