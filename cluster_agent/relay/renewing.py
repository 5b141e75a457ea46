"""A relay's certificate, renewed by the hub where the relay is told of one.

    three fifths of its time are over ─▶ next key, request ─▶ a hub, which knows us by the certificate of now
    certificate ─▶ files ─▶ shown to whoever connects from then on

The connection is opened for this alone and closed again, so a relay goes on without any hub. Without being told of
one, whoever made its certificate makes the next and puts it into the same files; that the relay notices either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from bdw_fed.v1.membership_pb2 import CertifyRequest
from cluster_agent.membership.errors import NotNowError
from cluster_agent.membership.renewal import Renewal
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials
from wire.identity.requests import seconds_valid

_USED = 3 / 5  # of its time: certificates are valid for their life and a grace, which only the hub could tell apart
_SECONDS = 15.0


def renewal(credentials: Credentials, hubs: Sequence[str]) -> Renewal:
    """What keeps the certificate fresh; any of the hubs ("host:port") will do."""

    async def certify(request: bytes) -> bytes:
        return await _certified(credentials, hubs, request)

    def renewed() -> None:
        renewing.told(_USED * seconds_valid(credentials))

    renewing = Renewal(credentials, certify, renewed)
    renewed()
    return renewing


async def _certified(credentials: Credentials, hubs: Sequence[str], request: bytes) -> bytes:
    """The certificate that a hub makes. NotNowError, with what each of them said."""
    refusals = []
    for hub in hubs:
        shown, options = grpc_channel_credentials(credentials), channel_options(Identity(Role.HUB, "hub"))
        async with grpc.aio.secure_channel(hub, shown, options=options) as channel:
            try:
                answer = await FederationServiceStub(channel).Certify(CertifyRequest(request=request), timeout=_SECONDS)
            except grpc.aio.AioRpcError as error:
                refusals.append(f"{hub}: {error.details()}")
                continue
            return answer.certificate
    raise NotNowError("; ".join(refusals))
