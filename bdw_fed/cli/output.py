"""How answers are shown: a table for people, JSON, YAML or names for programs.

A table is drawn by rich on a terminal and is plain text in columns elsewhere. Colour only on a terminal, and not where
NO_COLOR is set. For programs, messages are shown as protobuf's canonical JSON (`plain`); for people, states are short
lower-case words (`word`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console

_STYLES = {
    "succeeded": "green",
    "ready": "green",
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "cancelled": "yellow",
    "suspended": "yellow",
    "stopping": "yellow",
    "not-ready": "red",
    "unknown": "yellow",
    "gone": "red",
}


class Format(StrEnum):
    """What -o takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"

    @property
    def for_people(self) -> bool:
        """Whether it is a table."""
        return self in (Format.TABLE, Format.WIDE)


def is_terminal() -> bool:
    """Whether a person watches standard output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def console() -> Console:
    """A rich console on standard output that keeps to NO_COLOR."""
    from rich.console import Console

    return Console(highlight=False, no_color=bool(os.environ.get("NO_COLOR")))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """A table. A column whose name starts with '>' is aligned to the right."""
    if is_terminal():
        _show_rich(columns, rows, title)
        return
    if title:
        print(title)
    for line in plain_table(columns, rows):
        print(line)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Text in columns, two spaces between them.

    >>> plain_table(["NAME", ">SIZE"], [["a", "10"], ["bc", "5"]])
    ['NAME  SIZE', 'a       10', 'bc       5']
    """
    right = [column.startswith(">") for column in columns]
    table = [[column.lstrip(">") for column in columns], *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _show_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console().print(table)


def show_values(values: Any, form: Format) -> None:
    """Plain values as JSON or YAML."""
    if form is Format.YAML:
        import yaml

        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        yaml.dump(values, sys.stdout, Dumper=dumper, sort_keys=False, allow_unicode=True)
        return
    print(json.dumps(values, indent=2, ensure_ascii=False))


def plain(message: Message) -> dict[str, Any]:
    """A message as protobuf's canonical JSON has it, with all fields."""
    from bdw_fed.cli.protojson import to_values

    return to_values(message)


def word(enum: Any, value: int) -> str:
    """An enum's value as a word: RUN_STATE_SUCCEEDED → succeeded. `enum` is its type or descriptor."""
    descriptor = getattr(enum, "DESCRIPTOR", enum)
    known = descriptor.values_by_number.get(value)
    if known is None:
        return str(value)
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(known.name).removeprefix(prefix).lower().replace("_", "-")


def show_pairs(pairs: Mapping[str, str]) -> None:
    """Names and values below each other, for a description."""
    width = max(len(name) for name in pairs) + 2
    for name, value in pairs.items():
        print(f"{name + ':':<{width}}{value}")
