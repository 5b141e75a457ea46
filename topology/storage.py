"""Where the nodes of a cluster keep data beside their disks: memory, a Redis, object storage.

Credentials are named, never written: each node finds them as files below a directory that its operator keeps.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from topology.errors import WrongValue
from topology.schema import Duration, Model, Name, Size, Takes


def _parts(value: str, example: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise WrongValue(f"{value!r} is not an address: {error}", f"write it as {example}") from None
    if parts.username or parts.password:
        raise WrongValue(
            "the address has a user or a password in it",
            "take them out, and name them with credentials, which are files on each node",
        )
    return parts


def _redis(value: str) -> str:
    parts = _parts(value, "redis://redis.example.org:6379/0")
    database = parts.path.strip("/")
    if (
        parts.scheme not in ("redis", "rediss")
        or not parts.hostname
        or parts.query
        or (database and not database.isdecimal())
    ):
        raise WrongValue(
            f"{value!r} is not the address of a Redis: expected redis://HOST:PORT/DATABASE, or rediss:// for TLS",
            "write it as redis://redis.example.org:6379/0",
        )
    return value


def _endpoint(value: str) -> str:
    parts = _parts(value, "https://s3.example.org")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise WrongValue(
            f"{value!r} is not an endpoint: expected https://HOST:PORT", "write it as https://s3.example.org"
        )
    return value


def _bucket(value: str) -> str:
    if not value or "/" in value:
        raise WrongValue(f"{value!r} is not the name of a bucket", "write the name alone; prefix is for what follows")
    return value


def _prefix(value: str) -> str:
    if not value.strip("/"):
        raise WrongValue("the prefix is empty", "name one, so that all else that is kept there is safe")
    return value


class Redis(Model):
    """A Redis that the nodes of a cluster share, for small units."""

    url: Annotated[str, AfterValidator(_redis), Takes("the address of a Redis", "redis://redis.example.org:6379/0")]
    prefix: Annotated[str, AfterValidator(_prefix), Takes("a prefix", "bdw-fed")] = "bdw-fed"
    credentials: Name | None = None


class Objects(Model):
    """A bucket of object storage with an S3 API. Clusters share it that say the same endpoint, bucket and prefix."""

    bucket: Annotated[str, AfterValidator(_bucket), Takes("the name of a bucket", "federation")]
    endpoint: Annotated[str, AfterValidator(_endpoint), Takes("an endpoint", "https://s3.example.org")] | None = None
    prefix: Annotated[str, AfterValidator(_prefix), Takes("a prefix", "bdw-fed")] = "bdw-fed"
    region: str = Field(default="us-east-1", min_length=1)
    credentials: Name | None = None
    plain: bool = False  # speak to an http:// endpoint

    @model_validator(mode="after")
    def _meant(self) -> Objects:
        if self.endpoint is not None and self.endpoint.startswith("http://") and not self.plain:
            raise WrongValue(
                f"{self.endpoint} would be spoken to without TLS",
                "write https://, or plain: true if the network between is yours alone",
                ("endpoint",),
            )
        return self


class Storage(Model):
    """Places for the data of a cluster beside the disks of its nodes; and how often what lies on these is looked at."""

    memory: Size | None = None  # of each node, for units; None: a small part of what its workers may use
    scrub: Duration | None = None  # in which each node reads again all that it stores; 0 = never, None: a week
    redis: Redis | None = None
    objects: Objects | None = None
