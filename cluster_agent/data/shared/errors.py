"""What can go wrong with a shared place: no error of a run, whose bytes are had in the ordinary way then."""

from __future__ import annotations

from cluster_agent.data.errors import DataError


class SharedStoreError(DataError):
    """The place did not do what it was asked; it may later."""


class MissingError(SharedStoreError):
    """The place has nothing under that name: it was deleted, evicted or never whole."""


class WrongStorageError(DataError):
    """What is said of a place can't be meant: the text names the field."""
