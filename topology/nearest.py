"""The known word that somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most probably meant."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A remedy: the nearest known word, then all of them; nothing when none is known."""
    known = list(dict.fromkeys(known))
    near = nearest(word, known)
    listed = f"{otherwise} {_listed(known)}" if known else ""
    if near is None:
        return listed
    if known == [near]:
        return f"did you mean {near}?"
    return f"did you mean {near}? {listed[:1].upper()}{listed[1:]}"


def _listed(words: list[str]) -> str:
    shown = ", ".join(words[:20])
    return f"{shown} and {len(words) - 20} more" if len(words) > 20 else shown
