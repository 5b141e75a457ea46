"""The fake server's refusals, with the words and reasons of a real one."""

from __future__ import annotations

from typing import Any

_CODES = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "AlreadyExists": 409,
    "Conflict": 409,
    "Expired": 410,
    "UnsupportedMediaType": 415,
    "Invalid": 422,
    "TooManyRequests": 429,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "Timeout": 504,
}
REASONS = {code: reason for reason, code in _CODES.items()}


class Refused(Exception):
    """A request is answered with this Status."""

    def __init__(self, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = _CODES[reason]
        self.retry_after = details.get("retryAfterSeconds")
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": self.code,
            "details": details,
        }


def not_found(plural: str, name: str) -> Refused:
    return Refused("NotFound", f'{plural} "{name}" not found', name=name, kind=plural)


def exists(plural: str, name: str) -> Refused:
    return Refused("AlreadyExists", f'{plural} "{name}" already exists', name=name, kind=plural)


def conflict(plural: str, name: str, why: str) -> Refused:
    message = f'Operation cannot be fulfilled on {plural} "{name}": {why}'
    return Refused("Conflict", message, name=name, kind=plural)


def forbidden(plural: str, name: str, why: str) -> Refused:
    return Refused("Forbidden", f'{plural} "{name}" is forbidden: {why}', name=name, kind=plural)


def expired(version: int, oldest: int) -> Refused:
    return Refused("Expired", f"too old resource version: {version} ({oldest})")
