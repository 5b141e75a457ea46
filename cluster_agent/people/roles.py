"""What people may do here: the roles that the hub told last, which hold while it is away. Pure.

People come with certificates of the federation; tokens are for the hub, which can ask their issuers.
"""

from __future__ import annotations

from collections.abc import Iterable

from bdw_fed.v1 import access_pb2
from bdw_fed.v1.calls import ACCESS

SERVICE = "bdw_fed.v1.ControlPlaneService"


class Roles:
    """Who has which role, by the name in the certificate and the namespace."""

    def __init__(self) -> None:
        self._roles: dict[tuple[str, str], int] = {}

    def learn(self, people: Iterable[access_pb2.RoleBinding]) -> None:
        """This is what holds from now on."""
        roles: dict[tuple[str, str], int] = {}
        for each in people:
            key = (each.subject, each.namespace)
            roles[key] = max(roles.get(key, 0), each.role)
        self._roles = roles

    def objection(self, name: str, method: str, namespace: str) -> str | None:
        """Why somebody may not make this call; None: they may."""
        needs = ACCESS[SERVICE, method].needs
        has = max(self._roles.get((name, namespace), 0), self._roles.get((name, ""), 0))
        if has >= needs:
            return None
        return (
            f"you are {name}, with {_word(has)} in namespace {namespace} as the hub said last; "
            f"{method} needs {_word(needs)}"
        )


def _word(role: int) -> str:
    return access_pb2.Role.Name(role).removeprefix("ROLE_").lower() if role else "no role"  # type: ignore[arg-type]
