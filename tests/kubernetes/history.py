"""A model of what an API server keeps of one kind: a version, the objects, the changes since the last compaction.

It is not the fake server: it knows no HTTP, and it does to a watch what a bad network and a bad server do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster_agent.runtimes.kubernetes.api.objects.meta import Object, ObjectMeta


@dataclass(frozen=True)
class Change:
    """One line of the history: the object as it became, or as it was last."""

    version: int
    object: Object
    deleted: bool


@dataclass
class History:
    """The server's truth."""

    version: int = 1
    compacted: int = 0
    objects: dict[str, Object] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    made: int = 0

    def put(self, name: str) -> None:
        """Create or change the object."""
        self.version += 1
        before = self.objects.get(name)
        if before is None:
            self.made += 1
        uid = before.metadata.uid if before is not None else f"uid-{self.made}"
        self._record(name, uid, deleted=False)

    def delete(self, name: str) -> None:
        """Delete the object, if it is there."""
        before = self.objects.get(name)
        if before is not None:
            self.version += 1
            self._record(name, before.metadata.uid, deleted=True)

    def other_kind(self) -> None:
        """Something else was written: the version moves, and no watch of ours sees anything."""
        self.version += 1

    def compact(self) -> None:
        """Forget the history up to now."""
        self.compacted = self.version
        self.changes = []

    def _record(self, name: str, uid: str, *, deleted: bool) -> None:
        meta = ObjectMeta(name=name, namespace="ns", uid=uid, resource_version=str(self.version))
        object = Object(metadata=meta)
        if deleted:
            del self.objects[name]
        else:
            self.objects[name] = object
        self.changes.append(Change(self.version, object, deleted))
