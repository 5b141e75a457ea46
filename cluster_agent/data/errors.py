"""What can go wrong with data, in the words that reach a person."""

from __future__ import annotations


class DataError(Exception):
    """The base of this package's errors; its text says what was expected."""


class BadNameError(DataError):
    """A name from outside may not become a part of a path."""


class UnitMissingError(DataError):
    """The unit is not in this node's store."""


class UnitDamagedError(UnitMissingError):
    """The unit was in this node's store, but its bytes are not what they were. It is not any more."""


class ContentChangedError(DataError):
    """A file of the store, or a dataset opened in place, is not what it was when its digest was made."""


class UnitAwayError(DataError):
    """The unit's bytes are in object storage: they have to be brought before they are used."""


class JournalError(DataError):
    """A file of the node's journal can't be read by this release."""


class NotAFileError(DataError):
    """Something that is neither a regular file nor a directory of regular files was given as data."""


class NoDirectoryError(DataError):
    """A part of a dataset is to be a directory, and is none, or one that can't be kept as a unit."""


class OutsideRootError(DataError):
    """A source's path leads out of the cluster's data root."""


class NoSpaceError(DataError):
    """The bytes do not fit into what is left of the node's disk."""


class TransferError(DataError):
    """A transfer failed for good, after its retries."""


class NotTakenError(TransferError):
    """The other end does not want these bytes, now or later."""


class GoneError(TransferError):
    """No server that was named has the unit any more."""


class WrongContentError(DataError):
    """A file is not of the format that it is read as. It is the same at each attempt."""
