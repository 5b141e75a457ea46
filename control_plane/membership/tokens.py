"""Tokens, pure: what they look like, and what presenting one does.

A token is ID.SECRET; of the secret only a digest is stored. The first key that is presented with a token, in time, has
it for good: the same key may come again, because its answer may have been lost, and any other is refused. So a token is
used once, and who overhears it later has nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1 import store_pb2 as s
from control_plane.membership.errors import JoinRefused

ID_BYTES = 5
SECRET_BYTES = 20
KEPT_SECONDS = 7 * 86_400.0  # after it has expired, so that `token list` tells what became of it
_FORM = re.compile(rf"([0-9a-f]{{{2 * ID_BYTES}}})\.([0-9a-f]{{{2 * SECRET_BYTES}}})")
_UNKNOWN = (
    "this token is not known: it was mistyped, deleted, or made by another federation; "
    "an operator makes one with: bdw-fed token create --cluster NAME"
)


def written(token_id: str, secret: str) -> str:
    """The token as it is handed over."""
    return f"{token_id}.{secret}"


def digest(token_id: str, secret: str) -> bytes:
    """What is stored of the secret. It is drawn from 2^160, so that guessing it from this is in vain."""
    return hashlib.sha256(f"bdw-fed token {written(token_id, secret)}".encode()).digest()


def parsed(token: str) -> tuple[str, str]:
    """A token's id and secret. JoinRefused if it does not look like one."""
    found = _FORM.fullmatch(token.strip())
    if found is None:
        raise JoinRefused("this is no token: expected ID.SECRET, as 'bdw-fed token create' prints it")
    return found[1], found[2]


def present(
    record: s.TokenRecord | None, secret: str, cluster: str, key: bytes, sender: str, now: float
) -> s.TokenRecord:
    """The record after `key` (a digest) was presented with the token by `sender`; it may be as it was.

    `cluster` is who the caller means to be, empty if it leaves that to the token. JoinRefused. Nothing is said about a
    token to somebody who does not have its secret.
    """
    if record is None or not hmac.compare_digest(record.digest, digest(record.id, secret)):
        raise JoinRefused(_UNKNOWN)
    if cluster not in ("", record.cluster):
        raise JoinRefused(f"this token is for cluster {record.cluster}, not for {cluster}")
    if record.key and record.key != key:
        raise JoinRefused(
            f"this token was used already, {_moment(record.presented_at)}, with another key; "
            f"make another: bdw-fed token create --cluster {record.cluster}"
        )
    if record.key:
        return record
    if now >= record.expires_at:
        raise JoinRefused(
            f"this token expired {_moment(record.expires_at)}; "
            f"make another: bdw-fed token create --cluster {record.cluster}"
        )
    used = s.TokenRecord()
    used.CopyFrom(record)
    used.key = key
    used.presented_at = now
    used.presented_from = sender
    return used


def admits(record: s.TokenRecord) -> bool:
    """Whether the key that has the token gets a certificate."""
    return bool(record.key) and (not record.needs_acceptance or bool(record.accepted_by))


def waits(record: s.TokenRecord) -> bool:
    """Whether the key that has the token waits to be accepted."""
    return bool(record.key) and not admits(record)


def is_forgotten(record: s.TokenRecord, now: float) -> bool:
    """Whether nobody needs the record any more."""
    return now >= record.expires_at + KEPT_SECONDS


def shown(record: s.TokenRecord, now: float) -> pb.Token:
    """What people see of a token."""
    state = "unused" if now < record.expires_at else "expired"
    if record.key:
        state = "used" if admits(record) else "waiting"
    return pb.Token(
        id=record.id,
        cluster=record.cluster,
        state=state,
        created_at=record.created_at,
        created_by=record.created_by,
        expires_at=record.expires_at,
        needs_acceptance=record.needs_acceptance,
        key=key_words(record.key),
        presented_at=record.presented_at,
        presented_from=record.presented_from,
        accepted_by=record.accepted_by,
    )


def key_words(key: bytes) -> str:
    """A key's digest as people compare it; empty for none."""
    return f"sha256:{key.hex()}" if key else ""


def _moment(at: float) -> str:
    return time.strftime("on %Y-%m-%d at %H:%M:%S UTC", time.gmtime(at))
