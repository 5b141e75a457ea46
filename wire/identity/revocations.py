"""Which certificates are revoked: for a cluster, or for one of its nodes, the lowest generation that is still valid.

    hub: a revocation, stored ─▶ list, signed by the authority ─▶ agents ─▶ their peers and nodes

Lists only grow: what is learned is merged, so an old list changes nothing, and one that comes by way of a peer is
believed for its signature. Nobody has to be asked when a certificate is shown, so a cluster that was cut off is refused
also by those that can't reach the hub.

What is revoked has a name as in an `Identity`: a cluster, and all its nodes with it, or CLUSTER/NODE. When a cluster is
revoked its next generation is above those of all its nodes, so that theirs need not be told any more.
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
        """Take in what is told. Returns the names of which more is revoked than was known."""
        news = {name for name, generation in told.items() if generation > self.valid_from(name)}
        for name in news:
            self._valid_from[name] = told[name]
        return news

    def valid_from(self, name: str) -> int:
        """The lowest generation that is valid of the certificates of this cluster, or of this node."""
        return max(self._valid_from.get(name, 0), self._valid_from.get(name.partition("/")[0], 0))

    def nodes_of(self, cluster: str) -> dict[str, int]:
        """The nodes of the cluster that were revoked by themselves since the cluster was."""
        names = (name for name in self._valid_from if name.startswith(f"{cluster}/"))
        return {name.partition("/")[2]: self._valid_from[name] for name in names if self._counts(name)}

    def refusal(self, identity: Identity) -> str:
        """Why a member with this certificate is refused; empty = it is not."""
        if identity.role not in _MEMBERS or identity.generation >= self.valid_from(identity.name):
            return ""
        if identity.generation >= self.valid_from(identity.cluster):
            return (
                f"the certificates of {identity} were revoked: it has to join again, with the token that is in its "
                "agent's file node-token now"
            )
        return (
            f"the certificates of cluster {identity.cluster} were revoked: {identity} has to join again, "
            "with a new token (bdw-fed token create)"
        )

    def known(self) -> dict[str, int]:
        """All that counts, by name."""
        return {name: self._valid_from[name] for name in self._valid_from if self._counts(name)}

    def to_proto(self) -> list[Revocation]:
        """All that is known, in order."""
        known = self.known()
        return [Revocation(name=name, valid_from=known[name]) for name in sorted(known)]

    def _counts(self, name: str) -> bool:
        """Whether it says more than what is known of the whole cluster."""
        cluster, _, node = name.partition("/")
        return not node or self._valid_from[name] > self._valid_from.get(cluster, 0)


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
    return {each.name: each.valid_from for each in revocations}
