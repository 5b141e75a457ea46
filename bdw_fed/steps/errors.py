"""What can be wrong with a step's project or its sample; the message is for people."""

from __future__ import annotations


class StepError(Exception):
    """The project or its sample is not what it should be."""


class ThereAlreadyError(StepError):
    """There is something where a project was to be made."""
