"""Quantities as Kubernetes writes them: `500m`, `1Gi`, `1e3`, exactly.

`topology.quantity` is what people write in a topology, and refuses what they can only have written by mistake. What an
API server says needs the whole of the API's grammar (signs, nano, exa, exponents, fractions of bytes), and sums
of it must be exact, because a quota is. So here a quantity is a Fraction.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from topology.errors import WrongValue

_SUFFIXES: Final = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    **{name: Fraction(10 ** (3 * power)) for power, name in enumerate("kMGTPE", 1)},
    **{f"{name}i": Fraction(2 ** (10 * power)) for power, name in enumerate("KMGTPE", 1)},
}
_BINARY: Final = ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki")
_DECIMAL: Final = ("E", "P", "T", "G", "M", "k", "", "m", "u", "n")
_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40}))(?:[eE]([+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE])?)"
)
_MOST: Final = Fraction(2**63 - 1)
_LEAST: Final = Fraction(1, 10**9)


def parse(text: str) -> Fraction:
    """The number, within the API's bounds: at most 2^63-1; finer than a billionth is rounded away from zero."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise WrongValue(f"{text[:60]!r} is not a quantity", "write for example 500m, 2, 1Gi or 1e3")
    number, exponent, suffix = found.groups()
    value = Fraction(number if number[-1] != "." else number[:-1])
    value *= Fraction(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""]
    steps = value / _LEAST
    whole = -(-abs(steps.numerator) // steps.denominator)
    rounded = whole * _LEAST * (-1 if value < 0 else 1)
    return max(-_MOST, min(_MOST, rounded))


def write(value: Fraction, *, binary: bool = False) -> str:
    """The spelling with the largest suffix that is exact: `500m`, `3`, `1500k`; of bytes with `binary`, `1Gi`."""
    if value == 0:
        return "0"
    for suffix in (*(_BINARY if binary else ()), *_DECIMAL):
        number = value / _SUFFIXES[suffix]
        if number.denominator == 1:
            return f"{number.numerator}{suffix}"
    raise WrongValue(f"{value} is finer than a billionth", "round it first")
