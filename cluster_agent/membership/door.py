"""The door for nodes that have no certificate yet: their agent knows them by a token of its own, and asks the hub.

    node: key, node token ─▶ agent ─ as the agent ─▶ hub ─▶ certificate of that node of this cluster

The node token is made by the agent, in a file that the operator carries to the nodes. It holds for as many nodes as
come; a new one is made when the file is gone and the agent starts.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.membership_pb2_grpc import JoinServiceServicer
from cluster_agent.membership.errors import JoinError, NotNowError
from wire.identity import Credentials, refuse
from wire.identity.authority import authority_hash
from wire.identity.files import write_new

FILE = "node-token"
_FORM = re.compile(r"(sha256:[0-9a-f]{64})\.([0-9a-f]{40})")
_log = structlog.get_logger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


def node_token(path: Path, credentials: Credentials) -> str:
    """The node token in the file, which is made if there is none."""
    if not path.exists():
        write_new(path, f"{new_node_token(authority_hash(credentials.ca.read_bytes()))}\n".encode())
    return read_token(path)


def new_node_token(authority: str) -> str:
    """A node token for a cluster of the authority with this hash."""
    return f"{authority}.{secrets.token_hex(20)}"


def read_token(path: Path) -> str:
    """The node token in a file. JoinError if it has none."""
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise JoinError(f"{path}: the node token can't be read ({error.strerror})") from error
    hash_of(text, str(path))
    return text


def hash_of(token: str, where: str) -> str:
    """The hash of the authority, which a node token begins with. JoinError names `where` it was found."""
    found = _FORM.fullmatch(token)
    if found is None:
        raise JoinError(f"{where}: this is no node token; expected is the content of the agent's file '{FILE}'")
    return found[1]


class NodeJoinDoor(JoinServiceServicer):
    """Lets nodes of the cluster join. `certify` has the hub certify a request for a node."""

    def __init__(
        self, cluster: str, token: str, credentials: Credentials, certify: Callable[[bytes, str], Awaitable[bytes]]
    ) -> None:
        self._cluster = cluster
        self._token = token.encode()
        self._credentials = credentials
        self._certify = certify

    async def Authority(self, request: pb.AuthorityRequest, context: _Context) -> pb.AuthorityResponse:  # noqa: ARG002
        """The authority's certificate."""
        return pb.AuthorityResponse(certificate=self._credentials.ca.read_bytes())

    async def Join(self, request: pb.JoinRequest, context: _Context) -> pb.JoinResponse:
        """A certificate for a node's key."""
        if not hmac.compare_digest(request.token.encode(), self._token):
            await refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"this is not the node token of cluster {self._cluster}: copy the agent's file '{FILE}' to the node",
            )
        if request.cluster not in ("", self._cluster):
            await refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"this is the agent of cluster {self._cluster}, not of {request.cluster[:80]}",
            )
        if not request.node:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "a node that joins says its name")
        try:
            certificate = await self._certify(request.request, request.node)
        except NotNowError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except JoinError as error:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        _log.info("a node has joined", node=request.node, sender=context.peer())
        return pb.JoinResponse(certificate=certificate, cluster=self._cluster)
