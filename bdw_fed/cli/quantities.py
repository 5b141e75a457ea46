"""Sizes, durations and ages as people read them."""

from __future__ import annotations

import time

from bdw_fed.cli.exits import UsageError


def wall_clock() -> float:
    """Unix time, for ages that people read; in one place, so that a test can stop it."""
    return time.time()


def size(count: float) -> str:
    """Bytes in binary units.

    >>> size(512), size(1536), size(5 * 1024 ** 3)
    ('512 B', '1.5 KiB', '5.0 GiB')
    """
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """A duration, to the precision that matters.

    >>> duration(0.0123), duration(9.87), duration(75), duration(7265)
    ('12 ms', '9.9 s', '1m15s', '2h1m')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60)}s"
    if seconds < 86400:
        return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60)}m"
    return f"{int(seconds // 86400)}d{int(seconds % 86400 // 3600)}h"


def age(then: float, now: float) -> str:
    """How long ago a Unix time was; '-' if never.

    >>> age(0, 100), age(95.0, 100.0)
    ('-', '5.0 s')
    """
    return duration(max(0.0, now - then)) if then else "-"


def ahead(seconds: float) -> str:
    """How far a clock is ahead of another one.

    >>> ahead(0.004), ahead(-7265), ahead(90)
    ('0.0 s', '-2h1m', '+1m30s')
    """
    if abs(seconds) < 0.05:
        return "0.0 s"
    apart = duration(abs(seconds)) if abs(seconds) >= 1 else f"{abs(seconds):.1f} s"
    return f"{'-' if seconds < 0 else '+'}{apart}"


def kept(until: float, now: float) -> str:
    """Until when something is kept (0: nobody has said), as a person in this place and time reads it."""
    if not until:
        return "-"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until))
    return f"{when}, deleted" if until <= now else when


def share(part: float) -> str:
    """A share from 0 to 1 in percent."""
    return f"{part:.0%}"


def bytes_from(flag: str, text: str) -> int:
    """The bytes of `8Gi` and the like. UsageError names the flag."""
    from topology.errors import WrongValue
    from topology.quantity import parse_size

    try:
        return parse_size(int(text) if text.isdigit() else text)
    except WrongValue as error:
        raise UsageError(f"{flag}: {error.message}") from error
