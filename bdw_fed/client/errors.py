"""What can go wrong when asking the hub, as exceptions that can be told to a person as they are.

Every failed call ends as one of these, never as a gRPC error: `problems` lists what is wrong with what was given
(file, line, field, remedy), and `str()` is a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bdw_fed.v1.control_plane_pb2 import Problem
from wire.errors import line, problems_from_error


def _with_remedy(problem: Problem) -> str:
    return line(problem) + (f" ({problem.remedy})" if problem.remedy else "")


class ClientError(Exception):
    """The hub did not do what was asked."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)

    def __str__(self) -> str:
        """The message; where something is wrong with what was given all of it, each with what to do."""
        return "\n".join(map(_with_remedy, self.problems)) or super().__str__()


class Problems(ClientError):
    """What was given is not valid; nothing of it was done."""


class NotFound(ClientError):
    """There is nothing of that name."""


class Conflict(ClientError):
    """It exists already, has changed meanwhile, or is in a state that does not allow this."""


class Unavailable(ClientError):
    """The hub, or whom it had to ask, can't be reached just now; the same call may succeed later."""


class Forbidden(ClientError):
    """The hub does not let this user do that."""


class TimedOut(Unavailable):
    """No answer came in the time given."""


class NoProfile(ClientError):
    """Nothing says which hub to ask, or its credentials are missing."""


class DownloadFailed(ClientError):
    """An output's bytes could not be had, or were not those that the run made."""


class Expired(NotFound):
    """An output was to be kept for a while after its run's end, and that is over."""


_BY_STATUS: dict[str, type[ClientError]] = {
    "INVALID_ARGUMENT": Problems,
    "OUT_OF_RANGE": Problems,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": Conflict,
    "ABORTED": Conflict,
    "FAILED_PRECONDITION": Conflict,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": Unavailable,
    "DEADLINE_EXCEEDED": TimedOut,
    "PERMISSION_DENIED": Forbidden,
    "UNAUTHENTICATED": Forbidden,
}


def from_rpc_error(error: Any, hub: str) -> ClientError:
    """The exception for a failed call (a `grpc.RpcError`) to the hub at `hub`."""
    status = error.code()
    name = status.name if status is not None else "UNKNOWN"
    details = error.details() or name
    kind = _BY_STATUS.get(name, ClientError)
    if kind is Unavailable and _no_connection(details):
        return Unavailable(f"the hub at {hub} can't be reached ({_last_reason(details)})")
    if kind is TimedOut:
        return TimedOut(f"the hub at {hub} gave no answer in time")
    if kind is ClientError:
        details = f"the hub failed: {details}"
    return kind(details, problems_from_error(error))


def _no_connection(details: str) -> bool:
    return "failed to connect" in details or "connections to all backends" in details.lower()


def _last_reason(details: str) -> str:
    """The innermost cause in gRPC's nested sentence: `… last error: UNKNOWN: ipv4:…: Connection refused`."""
    return details.rsplit(": ", 1)[-1].strip(" .()[]") or details
