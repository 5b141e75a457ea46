"""Who is a member: tokens to join with, and the end of a membership."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from bdw_fed.client.errors import ClientError
from bdw_fed.client.objects import CALL_TIMEOUT, Objects
from bdw_fed.v1 import membership_pb2 as pb


class Membership(Objects):
    """The part of the client that is about clusters as members."""

    async def create_token(
        self, cluster: str, *, time_to_live: float = 3600.0, needs_acceptance: bool = False
    ) -> pb.CreateTokenResponse:
        """A token with which `cluster` can join once, within `time_to_live` seconds. It is told in this answer only."""
        request = pb.CreateTokenRequest(cluster=cluster, time_to_live=time_to_live, needs_acceptance=needs_acceptance)
        response: pb.CreateTokenResponse = await self._transport.call("CreateToken", request, CALL_TIMEOUT)
        return response

    async def tokens(self) -> Sequence[pb.Token]:
        """All tokens, without their secrets, the oldest first."""
        response: pb.ListTokensResponse = await self._transport.call("ListTokens", pb.ListTokensRequest(), CALL_TIMEOUT)
        return list(response.tokens)

    async def delete_token(self, token: str) -> None:
        """Let nobody join with the token of this id any more. Raises NotFound."""
        await self._transport.call("DeleteToken", pb.DeleteTokenRequest(id=token), CALL_TIMEOUT)

    async def accept_cluster(self, cluster: str, *, key: str = "") -> pb.Token:
        """Let in who waits to be accepted as `cluster`; `key` is its key's hash, if several wait. Raises Conflict."""
        request = pb.AcceptClusterRequest(cluster=cluster, key=key)
        response: pb.AcceptClusterResponse = await self._transport.call("AcceptCluster", request, CALL_TIMEOUT)
        return response.token

    async def revoke_cluster(self, cluster: str) -> None:
        """Cut a cluster off, with its nodes and tokens, for good. Raises NotFound."""
        await self._transport.call("RevokeCluster", pb.RevokeClusterRequest(cluster=cluster), CALL_TIMEOUT)

    async def revoke_node(self, cluster: str, node: str) -> bool:
        """Cut one node off. Returns whether anybody knows it. Raises NotFound if there is no such cluster."""
        request = pb.RevokeNodeRequest(cluster=cluster, node=node)
        response: pb.RevokeNodeResponse = await self._transport.call("RevokeNode", request, CALL_TIMEOUT)
        return response.is_known

    async def renew_certificate(self) -> datetime.datetime:
        """Have our own certificate renewed, for a new key, in the files of the profile. Returns when the new one ends.

        Interrupted, it goes on with the same key when it is called again; until then the one of before is in use.
        Raises Problems, Forbidden, and OSError where the files can't be written.
        """
        from wire.identity import requests as asking

        credentials = self._transport.profile.load_credentials()
        folder = credentials.certificate.parent
        wanted = await self._transport.blocking(lambda: asking.begin(folder))
        request = pb.RenewCertificateRequest(namespace=self.namespace, request=wanted)
        response: pb.RenewCertificateResponse = await self._transport.call("RenewCertificate", request, CALL_TIMEOUT)
        authority = credentials.ca.read_bytes()
        try:
            await self._transport.blocking(lambda: asking.install(folder, response.certificate, authority))
        except asking.BadCertificateError as error:
            raise ClientError(str(error)) from error
        return await self._transport.blocking(lambda: asking.ends_at(credentials))
