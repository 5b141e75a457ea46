"""What a call asks for, pure: from its request to the roles that it needs, and where.

A call's own need is stated in the contract (`bdw_fed.v1.calls`). What it needs besides depends on the kinds of the
objects that it applies or deletes: topologies, agents and quotas concern all namespaces, for these share the clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from bdw_fed.v1 import access_pb2
from bdw_fed.v1.calls import ACCESS

SERVICE: Final = "bdw_fed.v1.ControlPlaneService"
EVERYWHERE: Final = ""
DEFAULT: Final = "default"
Role: TypeAlias = access_pb2.Role.ValueType

# kind -> what applying and deleting it needs, and whether in all namespaces
KINDS: Final[Mapping[str, tuple[Role, bool]]] = {
    "Workflow": (access_pb2.ROLE_EXPERT, False),
    "Run": (access_pb2.ROLE_EXPERT, False),
    "Step": (access_pb2.ROLE_ENGINEER, False),
    "Topology": (access_pb2.ROLE_OPERATOR, True),
    "Quota": (access_pb2.ROLE_OPERATOR, True),
    "Agent": (access_pb2.ROLE_OPERATOR, True),
}
_TOLD = ("kind", "name", "run", "workflow", "subject", "reason", "cluster", "id", "key")
_MOST_OBJECTS = 100


@dataclass(frozen=True, slots=True)
class Need:
    """At least this role, in this namespace or in all of them."""

    role: Role
    namespace: str

    def __str__(self) -> str:
        return f"{role_name(self.role)} {place(self.namespace)}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that somebody makes."""

    method: str
    namespace: str
    needs: tuple[Need, ...]
    changes: bool
    about: Mapping[str, object]


def asked(method: str, request: Any, objects: Iterable[tuple[str, str]] = ()) -> Asked:
    """What a call to `method` asks for, which applies or deletes these objects (kind and name). KeyError: no such call.

    A dry run needs what the change would, and changes nothing.
    """
    access = ACCESS[SERVICE, method]
    namespace = getattr(request, "namespace", "") or (EVERYWHERE if access.empty_is_all else DEFAULT)
    needs = {Need(access.needs, namespace): None}
    named = list(objects)
    for kind, _ in named:
        if kind in KINDS:
            role, everywhere = KINDS[kind]
            needs[Need(role, EVERYWHERE if everywhere else namespace)] = None
    changes = access.changes and not getattr(request, "dry_run", False)
    return Asked(method, namespace, tuple(needs), changes, _about(request, named))


def objects_of(method: str, request: Any) -> list[tuple[str, str]]:
    """The objects that a request names itself."""
    return [(request.kind, request.name)] if method == "Delete" else []


def role_name(role: int) -> str:
    """A role as people write it; "no role" for none."""
    if not role:
        return "no role"
    return access_pb2.Role.Name(role).removeprefix("ROLE_").lower()  # type: ignore[arg-type]


def place(namespace: str) -> str:
    """Where a role holds, in words."""
    return f"in namespace {namespace}" if namespace else "in all namespaces"


def _about(request: Any, objects: list[tuple[str, str]]) -> dict[str, object]:
    """What a line of the audit log says of a request: names, never values, for those may be secret."""
    told: dict[str, object] = {}
    for field in _TOLD:
        if value := getattr(request, field, ""):
            told[field] = value
    if role := getattr(request, "role", 0):
        told["role"] = role_name(role)
    if digest := getattr(request, "digest", b""):
        told["digest"] = digest.hex()
    if objects and "kind" not in told:
        told["objects"] = [f"{kind}/{name}" for kind, name in objects[:_MOST_OBJECTS]]
        if len(objects) > _MOST_OBJECTS:
            told["more_objects"] = len(objects) - _MOST_OBJECTS
    return told
