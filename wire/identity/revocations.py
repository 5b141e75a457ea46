"""Which certificates are revoked: for each cluster the lowest generation that is still valid.

    hub: a revocation, stored ─▶ list, signed by the authority ─▶ agents ─▶ their peers and nodes

Lists only grow: what is learned is merged, so an old list changes nothing, and one that comes by way of a peer is
believed for its signature. Nobody has to be asked when a certificate is shown, so a cluster that was cut off is refused
also by those that can't reach the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from bdw_fed.v1.membership_pb2 import Revocation, RevocationList, SignedRevocations
from wire.identity.roles import Identity, Role

_MEMBERS = (Role.AGENT, Role.NODE)


class Revocations:
    """What one process knows of them."""

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self._valid_from: dict[str, int] = dict(known or {})

    def learn(self, told: Mapping[str, int]) -> set[str]:
        """Take in what is told. Returns the clusters of which more is revoked than was known."""
        news = {cluster for cluster, generation in told.items() if generation > self._valid_from.get(cluster, 0)}
        for cluster in news:
            self._valid_from[cluster] = told[cluster]
        return news

    def valid_from(self, cluster: str) -> int:
        """The lowest generation of the cluster's certificates that is valid."""
        return self._valid_from.get(cluster, 0)

    def refusal(self, identity: Identity) -> str:
        """Why a member with this certificate is refused; empty = it is not."""
        if identity.role not in _MEMBERS or identity.generation >= self.valid_from(identity.cluster):
            return ""
        return (
            f"the certificates of cluster {identity.cluster} were revoked: {identity} has to join again, "
            "with a new token (bdw-fed token create)"
        )

    def known(self) -> dict[str, int]:
        """All that is known, by cluster."""
        return dict(self._valid_from)

    def to_proto(self) -> list[Revocation]:
        """All that is known, in order."""
        return [Revocation(cluster=name, valid_from=self._valid_from[name]) for name in sorted(self._valid_from)]


def statement(revocations: Revocations) -> bytes:
    """What the authority signs."""
    return RevocationList(revocations=revocations.to_proto()).SerializeToString(deterministic=True)


def believed(signed: SignedRevocations, authority: bytes) -> dict[str, int] | None:
    """What the list says, if the authority with this certificate (PEM) has signed it; otherwise None."""
    from wire.identity.authority import is_signed

    if not is_signed(signed.list, signed.signature, authority):
        return None
    try:
        return as_mapping(RevocationList.FromString(signed.list).revocations)
    except DecodeError:
        return None


def as_mapping(revocations: Iterable[Revocation]) -> dict[str, int]:
    """A repeated field as `Revocations.learn` takes it."""
    return {each.cluster: each.valid_from for each in revocations}
