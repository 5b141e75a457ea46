"""What the fake server keeps: objects by kind under one version, and the history that watches are served from."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.kubernetes.fake import statuses

Manifest = dict[str, Any]


class Key(NamedTuple):
    """Where an object is kept."""

    plural: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Change:
    """One write: the object before and after it; None = it was not there."""

    version: int
    key: Key
    before: Manifest | None
    after: Manifest | None


class Store:
    """Objects are never changed in place: who wants to write writes a copy."""

    def __init__(self) -> None:
        self.version = 100
        self.compacted = 0
        self.objects: dict[Key, Manifest] = {}
        self.owners: dict[Key, dict[tuple[str, ...], set[str]]] = {}
        self.history: list[Change] = []
        self.listeners: set[Callable[[Change], None]] = set()
        self._uids = itertools.count(1)

    def get(self, key: Key) -> Manifest:
        found = self.objects.get(key)
        if found is None:
            raise statuses.not_found(key.plural, key.name)
        return copy.deepcopy(found)

    def within(self, plural: str, namespace: str = "") -> Iterator[Manifest]:
        """The objects of a kind in a namespace, or in all, by name."""
        for key in sorted(self.objects):
            if key.plural == plural and namespace in ("", key.namespace):
                yield self.objects[key]

    def create(self, key: Key, manifest: Manifest) -> Manifest:
        if key in self.objects:
            raise statuses.exists(key.plural, key.name)
        created = copy.deepcopy(manifest)
        created["metadata"] |= {
            "name": key.name,
            "uid": f"00000000-0000-4000-8000-{next(self._uids):012d}",
            "creationTimestamp": now(),
            "generation": 1,
        }
        if key.namespace:
            created["metadata"]["namespace"] = key.namespace
        return self._write(key, created)

    def replace(self, key: Key, manifest: Manifest) -> Manifest:
        """The object as it shall be; a write that changes nothing is none."""
        before = self.objects[key]
        stated = manifest["metadata"].get("resourceVersion")
        if stated not in (None, "", before["metadata"]["resourceVersion"]):
            raise statuses.conflict(
                key.plural, key.name, "the object has been modified; please apply your changes again"
            )
        for constant in ("uid", "creationTimestamp", "resourceVersion", "name"):
            manifest["metadata"][constant] = before["metadata"][constant]
        return copy.deepcopy(before) if manifest == before else self._write(key, manifest)

    def change(self, key: Key, change: Callable[[Manifest], None]) -> Manifest:
        """Change the object as it is now: the way of the server's own parts."""
        manifest = self.get(key)
        change(manifest)
        return self.replace(key, manifest)

    def delete(self, key: Key) -> Manifest:
        before = self.objects.pop(key)
        self.owners.pop(key, None)
        self.version += 1
        self._record(Change(self.version, key, before, None))
        return before

    def since(self, version: int) -> list[Change]:
        """What was written after a version; refused if that is forgotten."""
        if version < self.compacted:
            raise statuses.expired(version, self.compacted)
        return [change for change in self.history if change.version > version]

    def compact(self) -> None:
        """Forget the history."""
        self.compacted = self.version
        self.history.clear()

    def _write(self, key: Key, manifest: Manifest) -> Manifest:
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)
        before, self.objects[key] = self.objects.get(key), manifest
        self._record(Change(self.version, key, before, manifest))
        return copy.deepcopy(manifest)

    def _record(self, change: Change) -> None:
        self.history.append(change)
        for listener in list(self.listeners):
            listener(change)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
