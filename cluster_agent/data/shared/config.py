"""Which places a node shares with others, as whoever starts it says.

Credentials are files in a directory, as Kubernetes mounts a Secret: they are in no argument, environment or log, and
are read anew when a connection is made, so that they may be replaced while we run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from cluster_agent.data.shared.errors import SharedStoreError, WrongStorageError

_REDIS_MOST: Final = 1 << 20
_REDIS_PORT: Final = 6379


@dataclass(frozen=True)
class RedisConfig:
    """A Redis that the nodes of a cluster share: `redis://HOST[:PORT][/DATABASE]`, `rediss://` with TLS.

    `credentials`: a directory with `password` and, where it has users, `username`. `authority`: the certificates that
    its own is checked with, where the system's don't do. `prefix` of its keys. Contents of more than `most` bytes are
    not put there; what nobody has deleted goes `seconds` after it was put.
    """

    url: str
    credentials: Path | None = None
    authority: Path | None = None
    prefix: str = "bdw-fed"
    most: int = _REDIS_MOST
    seconds: int = 86_400

    def __post_init__(self) -> None:
        parts = _split(self.url, "storage.redis.url")
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query:
            raise WrongStorageError(
                f"storage.redis.url: {self.url!r} is not redis://HOST:PORT/DATABASE, or rediss:// for TLS"
            )
        database = parts.path.strip("/")
        if database and not database.isdecimal():
            raise WrongStorageError(f"storage.redis.url: its database is a number, not {database!r}")
        if parts.username or parts.password:
            raise WrongStorageError(
                "storage.redis.url: it has a user or a password in it; put them into files of the directory that "
                "storage.redis.credentials names"
            )

    @property
    def address(self) -> tuple[str, int, int, bool]:
        """Host, port, database and whether to speak TLS."""
        parts = urlsplit(self.url)
        host = (parts.hostname or "").lower()
        return host, parts.port or _REDIS_PORT, int(parts.path.strip("/") or 0), parts.scheme == "rediss"

    @property
    def place(self) -> str:
        """See SharedStore."""
        host, port, database, tls = self.address
        return f"{'rediss' if tls else 'redis'}://{_bracketed(host)}:{port}/{database}/{self.prefix}"


@dataclass(frozen=True)
class ObjectsConfig:
    """A bucket of object storage with an S3 API. Clusters share it that say the same endpoint, bucket and prefix.

    `endpoint`: `https://HOST[:PORT]`; `http://` only where `plain` says that it is meant; empty: Amazon's.
    `credentials`: a directory with `access-key-id`, `secret-access-key` and perhaps `session-token`; without it those
    of the machine are used, as Amazon's own tools find them. `authority`: as for Redis.
    """

    bucket: str
    endpoint: str = ""
    prefix: str = "bdw-fed"
    region: str = "us-east-1"
    credentials: Path | None = None
    authority: Path | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        if not self.bucket or "/" in self.bucket:
            raise WrongStorageError(f"storage.objects.bucket: {self.bucket!r} is not the name of a bucket")
        if not self.prefix.strip("/"):
            raise WrongStorageError("storage.objects.prefix: empty; name one, so that all else in the bucket is safe")
        if not self.endpoint:
            return
        parts = _split(self.endpoint, "storage.objects.endpoint")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise WrongStorageError(f"storage.objects.endpoint: {self.endpoint!r} is not https://HOST:PORT")
        if parts.scheme == "http" and not self.plain:
            raise WrongStorageError(
                f"storage.objects.endpoint: {self.endpoint} would be spoken to without TLS; use https://, or say "
                "`plain: true` if the network between is yours alone"
            )

    @property
    def place(self) -> str:
        """See SharedStore."""
        where = f"{self.bucket}/{self.prefix.strip('/')}"
        if not self.endpoint:
            return f"s3://{where}@amazonaws.com/{self.region}"
        parts = urlsplit(self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"s3://{where}@{_bracketed((parts.hostname or '').lower())}:{port}"


@dataclass(frozen=True)
class SharedConfig:
    """All places that a node shares with others."""

    redis: RedisConfig | None = None
    objects: ObjectsConfig | None = None


def secret(directory: Path, name: str, *, optional: bool = False) -> str:
    """What a file of a credentials directory says; SharedStoreError if it can't be read."""
    path = directory / name
    try:
        return path.read_text().strip()
    except FileNotFoundError as error:
        if optional:
            return ""
        raise SharedStoreError(f"{path}: not there; the credentials of a shared place are files") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SharedStoreError(f"{path}: {error}") from error


def _split(url: str, field: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise WrongStorageError(f"{field}: {url!r}: {error}") from None
    return parts


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
