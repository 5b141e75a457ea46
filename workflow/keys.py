"""Keys of units: what of a unit's name says which others it belongs to.

Written as `key`, which is the name's first folder or, where it has none, the name up to its first dot; or as a pattern
like `{key}-*.csv`. Its `{key}` stands for at least one letter, `*` for any; neither stands for a slash, so a pattern
has as many folders as the names that it fits. No other sign has a meaning.

A name is read in one go: each piece of text between two such signs is looked for from the left, and the first place is
taken. That finds a way whenever there is one, because an earlier place leaves more for the rest, so no name can make it
slow; and `{key}` is as short as it can be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from topology.errors import WrongValue

BY_NAME = "key"
_KEY = "{key}"
_SIGNS = re.compile(r"(\{key\}|\*)")
_LONGEST = 256


@dataclass(frozen=True)
class KeyOf:
    """What reads the keys of names; made by `parse`. `folders`: of each, texts and signs in turn, texts at the ends."""

    written: str
    folders: tuple[tuple[str, ...], ...] = ()

    def key(self, name: str) -> str | None:
        """The key in a name; None if it is not of that pattern."""
        if not self.folders:
            folder, slash, _ = name.partition("/")
            return (folder if slash else name.partition(".")[0]) or None
        parts = name.split("/")
        if len(parts) != len(self.folders):
            return None
        found = None
        for part, pattern in zip(parts, self.folders, strict=True):
            key = _read(part, pattern)
            if key is None:
                return None
            found = key or found
        return found


def parse(written: str) -> KeyOf:
    """Read how keys are told. Raises `WrongValue`."""
    if written == BY_NAME:
        return KeyOf(written)
    example = "write key, or a pattern like {key}-*.csv or {key}/*"
    if written.count(_KEY) != 1:
        raise WrongValue(
            f"{written[:60]!r} does not have one {_KEY}, which says where in a unit's name the key is", example
        )
    if len(written) > _LONGEST:
        raise WrongValue(f"the pattern has {len(written)} letters, and may have {_LONGEST}", example)
    rest = written.replace(_KEY, "")
    if wrong := next((sign for sign in "{}?[]\\" if sign in rest), None):
        raise WrongValue(f"{wrong} has no meaning in the pattern {written[:60]!r}", example)
    folders = tuple(tuple(_SIGNS.split(folder)) for folder in written.split("/"))
    for folder in folders:
        if any(not text for text in folder[2:-1:2]):
            raise WrongValue(
                f"in {written[:60]!r} nothing says where one sign ends and the next begins", "put text between"
            )
    return KeyOf(written, folders)


def _read(part: str, pattern: tuple[str, ...]) -> str | None:
    """The key in a part of a name, "" where the pattern has none there; None if it does not fit."""
    first, *rest = pattern
    if not part.startswith(first):
        return None
    if not rest:
        return "" if part == first else None
    key, at = "", len(first)
    for sign, text in zip(rest[::2], rest[1::2], strict=True):
        least = at + (sign == _KEY)
        last = text is rest[-1] and sign is rest[-2]
        end = len(part) - len(text) if last else part.find(text, least)
        if end < least or not part.startswith(text, end):
            return None
        if sign == _KEY:
            key = part[at:end]
        at = end + len(text)
    return key
