"""What would change: the YAML forms of what is stored and what is new, line by line."""

from __future__ import annotations

import difflib

from workflow.canonical import AnyObject, canonical_yaml


def unified(stored: AnyObject | None, new: AnyObject | None) -> str:
    """A unified diff as `diff -u` writes it, empty when nothing changes; None = there is no such object."""
    shown = new or stored
    if shown is None:
        return ""
    version = f"@{shown.metadata.version}" if shown.kind == "Step" else ""
    name = f"{shown.kind}/{shown.metadata.name}{version}"
    old_lines = canonical_yaml(stored).splitlines() if stored is not None else []
    new_lines = canonical_yaml(new).splitlines() if new is not None else []
    lines = difflib.unified_diff(
        old_lines,
        new_lines,
        fromfile=f"stored/{name}" if stored is not None else "/dev/null",
        tofile=f"new/{name}" if new is not None else "/dev/null",
        lineterm="",
    )
    return "".join(line + "\n" for line in lines)
