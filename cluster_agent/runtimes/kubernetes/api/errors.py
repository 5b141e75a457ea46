"""Why a request to the API server failed, told apart by what the caller can do about it.

`of_status` reads the server's own Status object. Its `reason` is part of the API and trusted first; quota and admission
are both `Forbidden` to the server, so these two are told apart by the message, which is stable enough that kubectl's
users know it by heart.
"""

from __future__ import annotations

import re
from typing import Final

from cluster_agent.runtimes.kubernetes.api.objects.meta import Status


class ApiError(Exception):
    """The base. The text is one line for people; `status` is what the server said, if it said anything."""

    def __init__(self, message: str, status: Status | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ConfigurationError(ApiError):
    """No kubeconfig, no such context, credentials that can't be read."""


class NotFound(ApiError):
    """There is no such object, or no such kind on this server."""


class Conflict(ApiError):
    """Somebody else has changed the object, owns a field of it, or it isn't the one that was meant."""


class AlreadyExists(Conflict):
    """An object of this name is there."""


class Invalid(ApiError):
    """The server doesn't accept the object as it was written."""


class Unauthorized(ApiError):
    """The server doesn't know who we are."""


class Forbidden(ApiError):
    """Who we are may not do this."""


class AdmissionDenied(Forbidden):
    """A policy of the cluster refused the object."""


class QuotaExceeded(AdmissionDenied):
    """The namespace's quota has no room for it."""


class Gone(ApiError):
    """The version or continue token asked for is too old."""


class TooManyRequests(ApiError):
    """The server asked us to slow down."""


class Unavailable(ApiError):
    """The server couldn't be reached or couldn't answer. `uncertain`: it may have done what was asked all the same."""

    def __init__(
        self,
        message: str,
        status: Status | None = None,
        *,
        retry_after: float | None = None,
        uncertain: bool = True,
    ) -> None:
        super().__init__(message, status, retry_after=retry_after)
        self.uncertain = uncertain


_QUOTA: Final = re.compile(r"is forbidden: (exceeded quota|failed quota): ")
_ADMISSION: Final = re.compile(
    r"admission webhook \"|ValidatingAdmissionPolicy |denied the request"
    r"|is forbidden: (violates PodSecurity|unable to validate against any )"
    r"|is forbidden: \[?((max|min)imum |\S+ max limit to request)"
)
_QUOTA_RACE: Final = re.compile(r'cannot be fulfilled on resourcequotas "')
_RIGHTS: Final = re.compile(r'User "[^"]*" cannot \w+ resource')
_BY_REASON: Final[dict[str, type[ApiError]]] = {
    "NotFound": NotFound,
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Invalid": Invalid,
    "BadRequest": Invalid,
    "Unauthorized": Unauthorized,
    "Expired": Gone,
    "Gone": Gone,
    "TooManyRequests": TooManyRequests,
    "ServerTimeout": Unavailable,
    "ServiceUnavailable": Unavailable,
    "Timeout": Unavailable,
    "InternalError": Unavailable,
}
_BY_CODE: Final[dict[int, type[ApiError]]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def of_status(status: Status, did: str, retry_after: float | None = None) -> ApiError:
    """The error that a Status means; `did` is what was tried, such as `create pods/w1 in team-a`."""
    said = one_line(status.message) or status.reason or f"status {status.code}"
    if retry_after is None and status.details is not None and status.details.retry_after_seconds:
        retry_after = float(status.details.retry_after_seconds)
    if _is_admission(status):
        kind: type[ApiError] = QuotaExceeded if _QUOTA.search(status.message) else AdmissionDenied
    else:
        default = Unavailable if status.code >= 500 else ApiError
        kind = _BY_REASON.get(status.reason) or _BY_CODE.get(status.code, default)
    if kind is Conflict and _QUOTA_RACE.search(status.message):
        # Two creations charged the quota at the same moment: the object itself was not looked at yet.
        return Unavailable(f"can't {did}: {said}", status, retry_after=retry_after, uncertain=False)
    return kind(f"can't {did}: {said}", status, retry_after=retry_after)


def one_line(text: str) -> str:
    """The text without line breaks and runs of blanks."""
    return " ".join(text.split())


def _is_admission(status: Status) -> bool:
    """A webhook may answer with any code that it likes, so the words decide; who lacks a right was asked by nobody."""
    if status.code >= 500 or _RIGHTS.search(status.message):
        return False
    return bool(_ADMISSION.search(status.message) or (status.code == 403 and _QUOTA.search(status.message)))
