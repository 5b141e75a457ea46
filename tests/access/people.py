"""People at a hub: somebody of each role, and what is said to whoever has too little."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.hub import SECONDS, RunningHub

SERVICE = cp.DESCRIPTOR.services_by_name["ControlPlaneService"]
ROLES = [role for role in access_pb2.Role.values() if role]
REFUSALS = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)


def name_of(role: int) -> str:
    """The user who has this role, and no other; for 0 somebody without any."""
    return access_pb2.Role.Name(role).removeprefix("ROLE_").lower() if role else "nobody"  # type: ignore[arg-type]


async def grant_all(admin: ControlPlaneServiceStub, namespace: str = "") -> None:
    """Give each of them their role."""
    for role in ROLES:
        await admin.GrantRole(cp.GrantRoleRequest(subject=name_of(role), role=role, namespace=namespace))


@asynccontextmanager
async def everybody(hub: RunningHub) -> AsyncIterator[dict[int, ControlPlaneServiceStub]]:
    """Somebody's way to the hub by their role."""
    async with hub.person() as admin:
        await grant_all(admin)
    stubs = {}
    opened = [hub.person(name_of(role)) for role in (0, *ROLES)]
    try:
        for role, way in zip((0, *ROLES), opened, strict=True):
            stubs[role] = await way.__aenter__()
        yield stubs
    finally:
        for way in opened:
            await way.__aexit__(None, None, None)


async def answer_to(stub: ControlPlaneServiceStub, method: str, request: Any = None) -> tuple[grpc.StatusCode, str]:
    """How a call ends, with its words. Without a request: one that names nothing."""
    described = SERVICE.methods_by_name[method]
    if request is None:
        request = GetMessageClass(described.input_type)()
    call = getattr(stub, method)
    try:
        if described.client_streaming:
            await call(iter([request]), timeout=SECONDS)
        elif described.server_streaming:
            async for _ in call(request, timeout=SECONDS):
                break
        else:
            await call(request, timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def audited(hub: RunningHub) -> list[dict[str, Any]]:
    """The lines of the audit log."""
    return [json.loads(line) for line in hub.audit.read_text().splitlines()]
