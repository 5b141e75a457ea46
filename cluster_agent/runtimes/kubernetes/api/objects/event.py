"""Kubernetes' own events: what its parts say about an object. Not to be mixed up with ours."""

from __future__ import annotations

from datetime import datetime

import msgspec

from cluster_agent.runtimes.kubernetes.api.objects.meta import Object, Struct


class ObjectReference(Struct):
    """The object that an event is about."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Event(Object):
    """One remark; `count` says how often it was made. Old reporters fill in the two stamps, new ones `event_time`."""

    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int | None = None
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None

    @property
    def at(self) -> datetime | None:
        """When the remark was made last."""
        return self.last_timestamp or self.event_time or self.first_timestamp or self.metadata.creation_timestamp
