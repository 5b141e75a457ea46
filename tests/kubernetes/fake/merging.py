"""Patches: merge patch, and server-side apply with its owners of fields.

Lists of things that have a name are merged by it, other lists are replaced, which is what the schema says of the lists
in pods that anybody here writes.
"""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes.fake.statuses import Refused

Path = tuple[str, ...]
_NOT_OWNED = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


def merge(before: Any, patch: Any, *, by_name: bool) -> Any:
    """`patch` laid over `before`; null removes."""
    if by_name and _is_named(before) and _is_named(patch):
        merged = {item["name"]: item for item in before}
        for item in patch:
            merged[item["name"]] = merge(merged.get(item["name"], {}), item, by_name=True)
        return list(merged.values())
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value, by_name=by_name)
    return result


def apply(
    before: dict[str, Any], wanted: dict[str, Any], owners: dict[Path, set[str]], manager: str, *, force: bool
) -> dict[str, Any]:
    """The object after server-side apply; changes `owners` as well. Refused where others own what would change."""
    had, has = leaves(before), leaves(wanted)
    contested = sorted(path for path in has if owners.get(path, set()) - {manager} and had.get(path) != has[path])
    if contested and not force:
        others = sorted(set().union(*(owners[path] - {manager} for path in contested)))
        fields = ", ".join("." + ".".join(path) for path in contested)
        raise Refused(
            "Conflict",
            f"Apply failed with {len(contested)} conflict: conflict with {', '.join(map(repr, others))}: {fields}",
            causes=[{"reason": "FieldManagerConflict", "field": "." + ".".join(path)} for path in contested],
        )
    result = merge(before, wanted, by_name=True)
    for path in [path for path, who in owners.items() if manager in who and path not in has]:
        owners[path].discard(manager)
        if not owners[path]:
            del owners[path]
            _remove(result, path)
    for path in has:
        owners[path] = {manager} if path in contested else owners.get(path, set()) | {manager}
    return result


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Each field that has a value of its own; things in named lists are addressed by their name."""
    if _is_named(value):
        value = {item["name"]: item for item in value}
    if not isinstance(value, dict) or not value:
        return {path: value} if path not in _NOT_OWNED else {}
    found: dict[Path, Any] = {}
    for key, inner in value.items():
        found |= leaves(inner, (*path, key))
    return found


def _remove(value: Any, path: Path) -> None:
    for step in path[:-1]:
        if isinstance(value, list):
            value = next((item for item in value if item["name"] == step), {})
        else:
            value = value.get(step, {})
    if isinstance(value, dict):
        value.pop(path[-1], None)


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "name" in item for item in value)
