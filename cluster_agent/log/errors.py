"""What can be wrong with a coordinator's log, in words for the person who must mend it."""

from __future__ import annotations


class LogError(Exception):
    """The log can't be read or written. The agent stops: what is not in the log must not be said."""


class LogFullError(LogError):
    """There is no room on the log's disk. Nothing of the batch is in the log, and nothing of it was said."""


class LogBusyError(LogError):
    """Another process has this log open."""


class SchemaTooNewError(LogError):
    """A newer version of the program wrote this log."""
