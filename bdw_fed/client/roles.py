"""Roles: who may do what, for admins."""

from __future__ import annotations

from collections.abc import Sequence

from bdw_fed.client.transport import Transport
from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as pb

CALL_TIMEOUT = 30.0


class Roles:
    """The part of the client that is about users. A `namespace` of None means all of them."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self._transport = transport
        self.namespace = namespace

    async def grant_role(
        self, subject: str, role: access_pb2.Role.ValueType, *, namespace: str | None = None
    ) -> access_pb2.RoleBinding:
        """Give somebody a role, in place of the one that they had there.

        `subject` is the name in a certificate, oidc:NAME, or group:NAME. Raises Problems, Forbidden.
        """
        request = pb.GrantRoleRequest(namespace=namespace or "", subject=subject, role=role)
        response: pb.GrantRoleResponse = await self._transport.call("GrantRole", request, CALL_TIMEOUT)
        return response.binding

    async def revoke_role(self, subject: str, *, namespace: str | None = None) -> None:
        """Take the role away that somebody has there. Raises NotFound, Forbidden."""
        request = pb.RevokeRoleRequest(namespace=namespace or "", subject=subject)
        await self._transport.call("RevokeRole", request, CALL_TIMEOUT)

    async def roles(self, *, namespace: str | None = None) -> Sequence[access_pb2.RoleBinding]:
        """Who has which role: all of them, or those that count in a namespace."""
        request = pb.ListRolesRequest(namespace=namespace or "")
        response: pb.ListRolesResponse = await self._transport.call("ListRoles", request, CALL_TIMEOUT)
        return list(response.bindings)

    async def audit(
        self, *, namespace: str | None = None, user: str = "", since: float = 0.0, refused: bool = False, limit: int = 0
    ) -> pb.ReadAuditResponse:
        """Who wanted to change what: the newest lines of the hubs' audit logs, the oldest of them first.

        `since` is Unix time; a `limit` of 0 means 100. Raises Forbidden.
        """
        request = pb.ReadAuditRequest(namespace=namespace or "", user=user, since=since, refused=refused, limit=limit)
        response: pb.ReadAuditResponse = await self._transport.call("ReadAudit", request, CALL_TIMEOUT)
        return response
