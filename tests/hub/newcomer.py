"""A cluster without a certificate, that asks for one at the hub's door as the contract says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from bdw_fed.v1.membership_pb2_grpc import JoinServiceStub
from tests.hub.hub import SECONDS, RunningHub
from wire.identity import Credentials, Identity, Role, channel_options
from wire.identity import requests as asking


async def token(person: ControlPlaneServiceStub, cluster: str, **more: object) -> str:
    """A token to join with as this cluster."""
    made: pb.CreateTokenResponse = await person.CreateToken(
        pb.CreateTokenRequest(cluster=cluster, **{"time_to_live": 600.0, **more}),  # type: ignore[arg-type]
        timeout=SECONDS,
    )
    return made.token


@dataclass
class Newcomer:
    """One key that wants to be a cluster's."""

    hub: RunningHub
    place: Path
    request: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.request = asking.begin(self.place)

    @property
    def key(self) -> str:
        return asking.request_hash(self.request)

    async def join(self, token: str, cluster: str = "", **more: object) -> pb.JoinResponse:
        """What the hub answers. AioRpcError."""
        async with knocking(self.hub) as channel:
            asked = pb.JoinRequest(token=token, request=self.request, cluster=cluster, **more)  # type: ignore[arg-type]
            answer: pb.JoinResponse = await JoinServiceStub(channel).Join(asked, timeout=SECONDS)
            return answer

    async def joined(self, token: str) -> Credentials:
        """Join, and take what was given."""
        answer = await self.join(token)
        return asking.install(self.place, answer.certificate, self.hub.members.authority.pem)


@asynccontextmanager
async def knocking(hub: RunningHub) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the door for newcomers, which shows no certificate."""
    credentials = grpc.ssl_channel_credentials(hub.members.authority.pem)
    options = channel_options(Identity(Role.HUB, "hub"))
    async with grpc.aio.secure_channel(hub.join_address, credentials, options=options) as channel:
        yield channel


async def certified(
    hub: RunningHub,
    cluster: str,
    request: bytes,
    node: str = "",
    shown: Credentials | None = None,
    valid_from: int = 0,
) -> bytes:
    """A certificate, asked for as the agent of this cluster. AioRpcError."""
    async with hub.members.channel(hub.address, Role.AGENT, cluster, shown) as channel:
        asked = pb.CertifyRequest(request=request, node=node, valid_from=valid_from)
        answer: pb.CertifyResponse = await FederationServiceStub(channel).Certify(asked, timeout=SECONDS)
        return answer.certificate
