"""What all kinds have in common: names and versions, lists, the server's answers about itself."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Struct(msgspec.Struct, rename="camel", kw_only=True):
    """The base of everything decoded: the API writes camelCase."""


class OwnerReference(Struct):
    """Whose deletion deletes the object."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Struct):
    """An object's name, its identity (`uid`) and the version of what was read (`resource_version`)."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []


class Object(Struct):
    """The base of the kinds."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


class ListMeta(Struct):
    """At which version a list was read, and the token for its next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


class StatusCause(Struct):
    """One field that was wrong."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Struct):
    """What an error is about."""

    name: str = ""
    kind: str = ""
    retry_after_seconds: float = 0
    causes: list[StatusCause] | None = None


class Status(Struct):
    """The server's answer where there is no object: what became of the request, and why."""

    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


class WatchEvent(Struct):
    """One line of a watch. `object` is of the kind watched, a bookmark of it, or a Status."""

    type: str
    object: msgspec.Raw
