"""What can go wrong between us and etcd, sorted by the one question that matters to a writer: was it applied?

`Unavailable` and `Refused` prove that it was not, `Uncertain` leaves it open. Everything that gRPC or etcd
report is put into one of them here, in one place, so that no caller looks at status codes or texts.
"""

from __future__ import annotations

import grpc
import grpc.aio


class EtcdError(Exception):
    """Anything that etcd, or the way to it, answered instead of a result."""


class Unavailable(EtcdError):
    """No member of etcd took the request: it was certainly not applied, and may be sent again."""


class Uncertain(EtcdError):
    """The request was sent and its answer lost: it may have been applied, may be still, or never will be."""


class Refused(EtcdError):
    """etcd took the request and said no: it was not applied, and the same request will be refused again."""


class Compacted(Refused):
    """The revision asked for is no longer kept."""


class LeaseNotFound(Refused):
    """The lease has expired, was revoked or never was."""


class LeaseExists(Refused):
    """A lease of this id was granted before."""


class NoSpace(Refused):
    """etcd's quota is used up: it takes no writes until it is compacted, defragmented and its alarm disarmed."""


class LeaseLost(EtcdError):
    """The lease that this stood on can no longer be counted on: what was held with it is held no more."""


class FenceLost(EtcdError):
    """A guarded write came from a holder that the lock has passed over; nothing was written."""


# etcd's own words; their status codes are shared with many others.
_BY_DETAILS: dict[str, type[EtcdError]] = {
    "etcdserver: mvcc: required revision has been compacted": Compacted,
    "etcdserver: requested lease not found": LeaseNotFound,
    "etcdserver: lease already exists": LeaseExists,
    "etcdserver: mvcc: database space exceeded": NoSpace,
    "etcdserver: no leader": Unavailable,
    "etcdserver: not leader": Unavailable,
    "etcdserver: not capable": Unavailable,
    "etcdserver: rpc not supported for learner": Unavailable,
    "etcdserver: too many requests": Unavailable,
}

# gRPC says these only while it has no connection to hand the request to.
_NEVER_SENT = ("failed to connect to all addresses", "DNS resolution failed")

_REFUSED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DATA_LOSS,
    }
)


def classify(error: grpc.aio.AioRpcError, endpoint: str, method: str) -> EtcdError:
    """What `error`, met when calling `method` on `endpoint`, means for whoever asked."""
    details = error.details() or ""
    code = error.code()
    text = f"etcd at {endpoint}, {method}: {details or code.name}"
    if known := _BY_DETAILS.get(details):
        return known(text)
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NEVER_SENT):
        return Unavailable(text)
    if code in _REFUSED:
        return Refused(text)
    return Uncertain(f"{text} ({code.name})")
