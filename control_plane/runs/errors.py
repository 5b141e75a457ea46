"""What can be wrong with asking something of a run."""

from __future__ import annotations


class RunError(Exception):
    """Something that was asked of a run can't be done; the message is meant for people."""


class NoSuchRun(RunError):
    """There is no run of this name."""


class RunExists(RunError):
    """The name is taken."""


class Refused(RunError):
    """The run is in a state in which this can't be done."""
