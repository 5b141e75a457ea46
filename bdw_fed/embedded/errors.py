"""What can go wrong with a federation on this machine; each message says what to do."""

from __future__ import annotations


class EmbeddedError(Exception):
    """The federation can't be started, stopped or looked at."""


class ClashError(EmbeddedError):
    """Another supervisor holds this state directory."""


class NotUpError(EmbeddedError):
    """No federation runs in this state directory."""


class StartError(EmbeddedError):
    """A process of the federation does not start; the message holds the end of its log."""
