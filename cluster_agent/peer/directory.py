"""What the hub's directory says about who opens connections to whom."""

from __future__ import annotations

from bdw_fed.v1.federation_pb2 import PeerDirectory
from cluster_agent.relay.dialling import Relay, relays_of


def to_dial(cluster: str, directory: PeerDirectory) -> dict[str, str]:
    """The peers that `cluster` is to dial, with their addresses.

    One of two opens the stream: who can; if both can, the one whose name comes first.
    """
    return {
        peer.cluster: peer.gateway_address
        for peer in directory.peers
        if peer.gateway_address
        and peer.can_dial
        and peer.cluster != cluster
        and (not peer.can_be_dialled or cluster < peer.cluster)
    }


def relayed(directory: PeerDirectory) -> dict[str, tuple[Relay, ...]]:
    """The peers that are reached over relays, with those to try."""
    return {peer.cluster: relays_of(peer.relays) for peer in directory.peers if peer.relays}
