"""Fills in a command's arguments: {in.PORT}, {out.PORT}, {param.NAME}, {bundle}; {{ and }} are braces.

An input of many files becomes as many words where the placeholder is the whole word, and an optional input that the
workflow left unconnected becomes none; inside a longer word there is no telling how that is meant, so it is an error.
A parameter that is not a text is written as JSON, a text as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster_agent.runtimes.errors import TemplateError

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def fill(
    argv: Sequence[str],
    inputs: Mapping[str, Path | Sequence[Path]],
    outputs: Mapping[str, Path],
    parameters: Mapping[str, Any],
    bundle: Path | None,
) -> list[str]:
    """The words to execute. TemplateError names the word and what is wrong with it."""
    words: list[str] = []
    for word in argv:
        whole = _PIECE.fullmatch(word)
        if whole and whole[1] and whole[1].startswith("in."):
            found = inputs.get(whole[1][3:], ())
            words += [str(found)] if isinstance(found, Path) else [str(path) for path in found]
        else:
            words.append(_one_word(word, inputs, outputs, parameters, bundle))
    return words


def check(argv: Sequence[str]) -> None:
    """TemplateError if some word can't be filled in whatever the task; done before a worker is said to be ready."""
    if not argv:
        raise TemplateError("the command is empty: expected at least a program")
    for word in argv:
        for piece in _PIECE.finditer(word):
            if piece[0] in ("{{", "}}"):
                continue
            name = piece[1] or ""
            if name != "bundle" and not re.fullmatch(r"(in|out|param)\..+", name):
                raise TemplateError(
                    f"{word!r}: {piece[0]!r} is none of {{in.PORT}}, {{out.PORT}}, {{param.NAME}}, {{bundle}};"
                    " write {{ and }} for braces"
                )


def _one_word(
    word: str,
    inputs: Mapping[str, Path | Sequence[Path]],
    outputs: Mapping[str, Path],
    parameters: Mapping[str, Any],
    bundle: Path | None,
) -> str:
    def value(piece: re.Match[str]) -> str:
        if piece[0] in ("{{", "}}"):
            return piece[0][0]
        kind, _, name = (piece[1] or "").partition(".")
        if kind == "in":
            found = _look_up(inputs, name, word, "input port")
            if not isinstance(found, Path):
                raise TemplateError(
                    f"{word!r}: input {name} has many files, so {{in.{name}}} must be a word of its own"
                )
            return str(found)
        if kind == "out":
            return str(_look_up(outputs, name, word, "output port"))
        if kind == "param":
            told = _look_up(parameters, name, word, "parameter")
            return told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
        if piece[1] == "bundle":
            if bundle is None:
                raise TemplateError(f"{word!r}: this step has no bundle")
            return str(bundle)
        raise TemplateError(f"{word!r}: {piece[0]!r} is no placeholder; write {{{{ and }}}} for braces")

    return _PIECE.sub(value, word)


def _look_up(known: Mapping[str, Any], name: str, word: str, noun: str) -> Any:
    if name not in known:
        raise TemplateError(f"{word!r}: there is no {noun} {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]
