"""What the core says to the hub, in the form in which the outbox keeps it: a SessionRequest without its number."""

from __future__ import annotations

from bdw_fed.v1.federation_pb2 import FragmentAccepted, FragmentHeard, ReservationAnswer, SessionRequest, SlotsFreed
from bdw_fed.v1.model_pb2 import (
    FRAGMENT_STATE_CANCELLED,
    FRAGMENT_STATE_FAILED,
    FRAGMENT_STATE_SUCCEEDED,
    FragmentStatus,
)

END_STATES = frozenset([FRAGMENT_STATE_SUCCEEDED, FRAGMENT_STATE_FAILED, FRAGMENT_STATE_CANCELLED])
"""States that a fragment does not leave again."""


def hub_message(kind: str, message: bytes) -> bytes:
    """`kind` is ended, output (a FragmentStatus each), heard, accepted, reservation or freed."""
    match kind:
        case "ended":
            return SessionRequest(ended=FragmentStatus.FromString(message)).SerializeToString()
        case "output":
            return SessionRequest(output=FragmentStatus.FromString(message)).SerializeToString()
        case "heard":
            return SessionRequest(heard=FragmentHeard.FromString(message)).SerializeToString()
        case "accepted":
            return SessionRequest(accepted=FragmentAccepted.FromString(message)).SerializeToString()
        case "reservation":
            return SessionRequest(reservation=ReservationAnswer.FromString(message)).SerializeToString()
        case "freed":
            return SessionRequest(freed=SlotsFreed.FromString(message)).SerializeToString()
    raise ValueError(
        f"{kind!r} is nothing that the hub is told reliably: "
        "expected ended, output, heard, accepted, reservation or freed"
    )
