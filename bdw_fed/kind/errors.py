"""What can go wrong with the kind environment; each message says what to do."""

from __future__ import annotations


class KindError(Exception):
    """The environment can't be made, changed or looked at."""


class NotMadeError(KindError):
    """There is no environment in this state directory."""
