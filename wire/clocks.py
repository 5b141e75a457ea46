"""When a wall clock is so far from another one that somebody should look into it: the hub logs it, the CLI shows it.

Certificates and tokens are judged by wall clocks, and people read them; nothing else is decided by one.
"""

from __future__ import annotations

WRONG_SECONDS = 60.0


def is_wrong(ahead: float | None) -> bool:
    """Whether a clock that is so many seconds ahead (or behind) needs to be set; None = that is not known."""
    return ahead is not None and abs(ahead) >= WRONG_SECONDS
