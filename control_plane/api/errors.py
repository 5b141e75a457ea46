"""What goes wrong in a call, as a gRPC status with words for people; several problems at once as metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from bdw_fed.v1.control_plane_pb2 import Problem
from control_plane.access.errors import InvalidSubject, NoSuchBinding
from control_plane.blobs.errors import BlobError, NoSuchBlob
from control_plane.federation.errors import AgentInUse, AgentUnreachable, NoSuchAgent, NoSuchCluster, WrongTaint
from control_plane.membership.errors import BadWish, MembershipError, NoSuchToken
from control_plane.runs.errors import NoSuchRun, Refused, RunError, RunExists
from control_plane.store import errors as store
from control_plane.store.etcd.errors import Compacted, EtcdError
from wire.errors import ProblemError, problems_to_metadata

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

_Code = grpc.StatusCode
_MOST_WORDS = 900  # what was asked may be in them, and may be long


class NotFound(Exception):
    """What was asked for is not there."""


class Changed(Exception):
    """Something is not at the revision that the caller expects."""


class InUse(Exception):
    """Something can't be deleted while something else needs it."""


class Wrong(Exception):
    """The request can't be meant as it is."""


_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (NotFound, _Code.NOT_FOUND),
    (Changed, _Code.ABORTED),
    (InUse, _Code.FAILED_PRECONDITION),
    (Wrong, _Code.INVALID_ARGUMENT),
    (NoSuchRun, _Code.NOT_FOUND),
    (NoSuchAgent, _Code.NOT_FOUND),
    (NoSuchCluster, _Code.NOT_FOUND),
    (WrongTaint, _Code.INVALID_ARGUMENT),
    (AgentInUse, _Code.FAILED_PRECONDITION),
    (AgentUnreachable, _Code.UNAVAILABLE),
    (NoSuchToken, _Code.NOT_FOUND),
    (BadWish, _Code.INVALID_ARGUMENT),
    (MembershipError, _Code.FAILED_PRECONDITION),
    (RunExists, _Code.ALREADY_EXISTS),
    (Refused, _Code.FAILED_PRECONDITION),
    (RunError, _Code.FAILED_PRECONDITION),
    (InvalidSubject, _Code.INVALID_ARGUMENT),
    (NoSuchBinding, _Code.NOT_FOUND),
    (store.InvalidName, _Code.INVALID_ARGUMENT),
    (store.TooLarge, _Code.INVALID_ARGUMENT),
    (store.Conflict, _Code.ABORTED),
    (NoSuchBlob, _Code.NOT_FOUND),
    (BlobError, _Code.INVALID_ARGUMENT),
)
EXPECTED: tuple[type[Exception], ...] = (ProblemError, EtcdError, *(kind for kind, _ in _CODES))


async def abort(context: Context, error: Exception) -> NoReturn:
    """End the call with the status that `error`, one of EXPECTED, stands for."""
    if isinstance(error, ProblemError):
        first = error.problems[0] if error.problems else Problem(message="something is wrong")
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        await context.abort(_Code.INVALID_ARGUMENT, _sentence(first) + more, problems_to_metadata(error.problems))
    if isinstance(error, Compacted):
        await context.abort(_Code.OUT_OF_RANGE, "this revision of the store is no longer kept: list again, then watch")
    if isinstance(error, EtcdError):
        await context.abort(_Code.UNAVAILABLE, f"the store is away, nothing was done or all of it was: {error}")
    code = next((code for kind, code in _CODES if isinstance(error, kind)), _Code.INTERNAL)
    words = str(error)
    await context.abort(code, words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}…")


def _sentence(problem: Problem) -> str:
    place = f"{problem.file}:{problem.line}" if problem.line else problem.file
    return ": ".join(part for part in (place, problem.field, problem.message) if part)
