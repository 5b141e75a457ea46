"""How often hypothesis tries what takes long.

A test says how often it is tried with the default profile, by the suite of properties in CI; the quick tests try a
tenth of that, as they come after each change.
"""

from __future__ import annotations

from hypothesis import settings

_DEFAULT = 100
_LEAST = 4


def examples(usual: int) -> int:
    """So many by the default profile, in proportion by another, and never less than a few."""
    return max(_LEAST, usual * (settings.default or settings()).max_examples // _DEFAULT)


few = settings(max_examples=examples(25))  # each is a whole run, with many chances in one
