"""The calls of the people's service that only the hub answers: an agent says so, to whoever may speak to it.

As they are generated they would raise, and each such call would put a traceback into the agent's log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceServicer
from wire.identity import Role, require

Context = grpc.aio.ServicerContext[Any, Any]


class Foreign(ControlPlaneServiceServicer):
    """Answers nothing. What an agent does answer is in a class of this one."""


def _declined(method: str) -> Callable[[Foreign, object, Context], Awaitable[None]]:
    async def decline(_self: Foreign, _request: object, context: Context) -> None:
        await require(context, Role.USER)
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, f"an agent answers for its part of runs alone, and not {method}: ask the hub"
        )

    return decline


for _method in cp.DESCRIPTOR.services_by_name["ControlPlaneService"].methods:
    setattr(Foreign, _method.name, _declined(_method.name))
