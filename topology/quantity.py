"""Sizes, bandwidths, durations and processors as people write them, and back.

Within the program a size is whole bytes, a bandwidth bytes a second, a duration seconds, processors a float. `parse_*`
takes what stands in a file and raises `WrongValue`; `format_*` gives the canonical spelling, which parses to the
very same number. Bandwidths are kept to the bit, durations to the microsecond, processors to the thousandth, so that
both directions are exact.
"""

from __future__ import annotations

import re
from fractions import Fraction

from topology.errors import WrongValue

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_PREFIXES = _DECIMAL | _BINARY | {"K": 10**3}
_SECONDS = {
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_NUMBER = r"([0-9]{1,20}(?:\.[0-9]{1,9})?)"
_SIZE = re.compile(_NUMBER + r"\s?([kKMGTP]i?)?(B)?")
_BANDWIDTH = re.compile(_NUMBER + r"\s?([kKMGTP]i?)?(bit|bps|B)(/s|ps)?")
_DURATION = re.compile(rf"(?:{_NUMBER}(us|µs|ms|s|m|h|d))+")
_DURATION_PART = re.compile(rf"{_NUMBER}(us|µs|ms|s|m|h|d)")
_CPUS = re.compile(_NUMBER + r"(m)?")

_LARGEST_SIZE = 2**60
_LARGEST_BITS = 10**15
_LONGEST_MICROSECONDS = 100 * 366 * 86400 * 10**6
_MOST_CPUS = 10**6


def parse_size(value: object) -> int:
    """Bytes of `4Gi`, `4GiB`, `100M`, `100MB` or a plain whole number of bytes."""
    expected = "expected a size such as 512Mi, 4GiB or 100MB"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        size = Fraction(value)
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        size = Fraction(found[1]) * _PREFIXES[found[2] or ""]
    else:
        raise WrongValue(f"{_shown(value)} is not a size; {expected}", "Ki, Mi, Gi count in 1024; k, M, G in 1000")
    if size.denominator != 1:
        raise WrongValue(f"{_shown(value)} is not a whole number of bytes", "use a smaller unit")
    if size > _LARGEST_SIZE:
        raise WrongValue(f"{_shown(value)} is more than the largest size, 1024Pi", "check the unit")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact spelling: `4Gi`, `100M`, `1234`."""
    for units in (_BINARY, _DECIMAL):
        for name, factor in sorted(units.items(), key=lambda unit: -unit[1]):
            if name and size and size % factor == 0:
                return f"{size // factor}{name}"
    return str(size)


def parse_bandwidth(value: object) -> float:
    """Bytes a second of `100Mbit` (bits a second) or `12MB/s`. A plain number has no unit: refused."""
    expected = "expected a bandwidth such as 100Mbit, 1Gbit or 12MB/s"
    found = _BANDWIDTH.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or (found[3] == "bps" and found[4]):
        raise WrongValue(f"{_shown(value)} is not a bandwidth; {expected}", "write the unit, bits (bit) or bytes (B/s)")
    bits = round(Fraction(found[1]) * _PREFIXES[found[2] or ""] * (8 if found[3] == "B" else 1))
    if not 1 <= bits <= _LARGEST_BITS:
        raise WrongValue(f"{_shown(value)} is not between 1bit and 1000Tbit", "check the unit")
    return bits / 8


def format_bandwidth(bytes_per_second: float) -> str:
    """The shortest exact spelling in bits: `100Mbit`, `1500kbit`."""
    bits = round(bytes_per_second * 8)
    for name, factor in sorted(_DECIMAL.items(), key=lambda unit: -unit[1]):
        if bits and bits % factor == 0:
            return f"{bits // factor}{name}bit"
    return f"{bits}bit"


def parse_duration(value: object) -> float:
    """Seconds of `20ms`, `60s`, `5m`, `1h30m`, `2d` or a plain number of seconds."""
    expected = "expected a duration such as 20ms, 60s, 5m or 1h30m"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        seconds = Fraction(value)
    elif isinstance(value, str) and value.strip() == "0":
        seconds = Fraction(0)
    elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        parts = _DURATION_PART.findall(value.strip())
        seconds = sum((Fraction(number) * _SECONDS[unit] for number, unit in parts), Fraction(0))
    else:
        raise WrongValue(f"{_shown(value)} is not a duration; {expected}", "units are us, ms, s, m, h and d")
    microseconds = round(seconds * 10**6)
    if microseconds == 0 and seconds > 0:
        raise WrongValue(f"{_shown(value)} is shorter than the shortest duration, 1us", "use 0s or at least 1us")
    if microseconds > _LONGEST_MICROSECONDS:
        raise WrongValue(f"{_shown(value)} is longer than a hundred years", "check the unit")
    return microseconds / 10**6


def format_duration(seconds: float) -> str:
    """The shortest exact spelling in one unit: `5m`, `90s`, `20ms`."""
    microseconds = round(seconds * 10**6)
    if microseconds == 0:
        return "0s"
    for name in ("d", "h", "m", "s", "ms"):
        factor = int(_SECONDS[name] * 10**6)
        if microseconds % factor == 0:
            return f"{microseconds // factor}{name}"
    return f"{microseconds}us"


def parse_cpus(value: object) -> float:
    """Processors of `2`, `0.5` or `500m` (thousandths)."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        cpus = Fraction(value)
    elif isinstance(value, str) and (found := _CPUS.fullmatch(value.strip())):
        cpus = Fraction(found[1]) / (1000 if found[2] else 1)
    else:
        raise WrongValue(f"{_shown(value)} is not a number of processors", "write for example 2, 0.5 or 500m")
    thousandths = round(cpus * 1000)
    if not 1 <= thousandths <= _MOST_CPUS * 1000:
        raise WrongValue(
            f"{_shown(value)} is not between 0.001 and {_MOST_CPUS} processors", "write for example 1 or 500m"
        )
    return thousandths / 1000


def format_cpus(cpus: float) -> int | float:
    """A plain number, whole where it is whole."""
    return int(cpus) if cpus == int(cpus) else cpus


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
