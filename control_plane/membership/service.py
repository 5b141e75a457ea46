"""The door for clusters that have no certificate yet: it serves nothing else, and little at a time.

Whoever can reach the port may knock, so every refusal is logged with where it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import structlog

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.membership_pb2_grpc import JoinServiceServicer
from control_plane.membership.errors import JoinRefused, MembershipError
from control_plane.membership.joining import Joining
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger(__name__)


class JoinDoor(JoinServiceServicer):
    """Lets clusters join."""

    def __init__(self, joining: Joining, authority: bytes) -> None:
        self._joining = joining
        self._authority = authority

    async def Authority(self, request: pb.AuthorityRequest, context: Context) -> pb.AuthorityResponse:  # noqa: ARG002
        """The authority's certificate."""
        return pb.AuthorityResponse(certificate=self._authority)

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """A certificate for a key and a token."""
        try:
            return await self._joining.join(request, context.peer())
        except JoinRefused as refused:
            _log.warning(
                "a join was refused",
                sender=context.peer(),
                presented=request.token.partition(".")[0][:16],
                cluster=request.cluster[:80],
                reason=str(refused),
            )
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(refused))
        except MembershipError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except (EtcdError, StoreError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the store is away: try again ({error})")
