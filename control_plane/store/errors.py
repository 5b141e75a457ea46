"""What the store says instead of doing it. What etcd itself says is in `control_plane.store.etcd.errors`."""

from __future__ import annotations


class StoreError(Exception):
    """Anything that the store refuses; nothing was written."""


class InvalidName(StoreError):
    """A name that is not one: it might be a path, or two names."""


class Conflict(StoreError):
    """A key is not as the write expects it: read it again and decide anew.

    `key` is the key in words; `expected` and `current` are revisions of its last write, 0 = it is not there.
    """

    def __init__(self, key: str, expected: int, current: int) -> None:
        self.key = key
        self.expected = expected
        self.current = current
        super().__init__(self._say())

    def _say(self) -> str:
        return f"{self.key} was changed meanwhile: it is at revision {self.current}, expected was {self.expected}"


class AlreadyExists(Conflict):
    """A key that was to be made is there."""

    def _say(self) -> str:
        return f"{self.key} exists already, at revision {self.current}"


class NotFound(Conflict):
    """A key that was to be changed or deleted is not there."""

    def _say(self) -> str:
        return f"there is no {self.key}"


class TooLarge(StoreError):
    """A value, or all that a transaction writes, is more than etcd should hold."""


class Unreadable(StoreError):
    """A stored value is not the message that its key promises."""
