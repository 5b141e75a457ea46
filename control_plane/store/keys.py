"""The keys of everything that the hub stores: `/bdw-fed/v1/{kind}/{name}/{name}…`.

The names of most kinds begin with the namespace, and a list is of everything whose names begin alike: all runs, or
the runs of a namespace. Names that come from outside are checked here, once, against one pattern that has neither
slashes nor leading dots, so that no name can reach into another's place, neither in etcd nor as a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from control_plane.store.errors import InvalidName

_ROOT = "/bdw-fed/v1/"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


def checked_name(name: str) -> str:
    """The name itself. Raises InvalidName."""
    if _NAME.fullmatch(name) is None:
        raise InvalidName(
            f"{name[:80]!r} is not a name: expected 1 to 63 of a-z, 0-9, '-' and '.',"
            " beginning and ending with a letter or a digit"
        )
    return name


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where one value is stored. Raises InvalidName for names that could be something else than names."""

    kind: str
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        checked_name(self.kind)
        if not self.names:
            raise InvalidName(f"a key of kind {self.kind} has at least one name")
        for name in self.names:
            checked_name(name)

    def __str__(self) -> str:
        return "/".join((self.kind, *self.names))

    @property
    def raw(self) -> bytes:
        """The key in etcd."""
        return f"{_ROOT}{self}".encode()

    @classmethod
    def parse(cls, raw: bytes) -> Key:
        """The key that is `raw` in etcd."""
        kind, *names = raw.decode().removeprefix(_ROOT).split("/")
        return cls(kind, tuple(names))


def prefix_of(kind: str, names: tuple[str, ...]) -> bytes:
    """What the keys in etcd of this kind begin with whose names begin with `names`."""
    return (_ROOT + "".join(f"{checked_name(name)}/" for name in (kind, *names))).encode()
