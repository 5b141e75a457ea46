"""Label and field selectors."""

from __future__ import annotations

import re
from typing import Any

from tests.kubernetes.fake.statuses import Refused

_SET = re.compile(r"(\S+) (in|notin) \(([^)]*)\)")
_FIELDS = {"metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "involvedObject.uid"} | {
    "involvedObject.name",
    "involvedObject.kind",
}


class Selector:
    """Both kinds of selector, as they stand in a query."""

    def __init__(self, labels: str, fields: str) -> None:
        self._labels = [part.strip() for part in re.split(r",(?![^(]*\))", labels) if part.strip()]
        self._fields = [_equation(part) for part in fields.split(",") if part]
        for path, _, _ in self._fields:
            if path not in _FIELDS:
                raise Refused("BadRequest", f'field label not supported: "{path}"')

    def matches(self, manifest: dict[str, Any]) -> bool:
        labels = manifest["metadata"].get("labels") or {}
        return all(_has(labels, part) for part in self._labels) and all(
            (_at(manifest, path) == value) == equal for path, equal, value in self._fields
        )


def _has(labels: dict[str, str], part: str) -> bool:
    if found := _SET.fullmatch(part):
        key, operator, values = found.groups()
        within = labels.get(key) in [value.strip() for value in values.split(",")]
        return within if operator == "in" else not within
    if "=" in part:
        key, equal, value = _equation(part)
        return (labels.get(key) == value) == equal
    return part[1:] not in labels if part.startswith("!") else part in labels


def _equation(part: str) -> tuple[str, bool, str]:
    for sign, equal in (("!=", False), ("==", True), ("=", True)):
        if sign in part:
            key, _, value = part.partition(sign)
            return key.strip(), equal, value.strip()
    raise Refused("BadRequest", f"invalid selector: {part}")


def _at(manifest: dict[str, Any], path: str) -> str:
    found: Any = manifest
    for step in path.split("."):
        found = found.get(step, "") if isinstance(found, dict) else ""
    return str(found)
