"""A bucket of object storage with an S3 API as a shared place: for contents of any size, and for several clusters.

An object becomes visible when the last of its parts is there and confirmed; a content that is larger than a part is
sent in several at a time. Requests that fail are made again by the library, with growing pauses, within bounds that
leave room for the ordinary way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.config import ObjectsConfig, secret
from cluster_agent.data.shared.errors import MissingError, SharedStoreError, WrongStorageError
from wire.digests import ContentHasher

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential, S3Store

_PART_BYTES: Final = 8 << 20
_PARTS_MOST: Final = 9_000  # the API allows 10,000
_PARTS_AT_ONCE: Final = 4
_PIECE_BYTES: Final = 4 << 20
_CREDENTIALS_SECONDS: Final = 300.0
_ATTEMPTS: Final = 4  # further ones, of a request
_GIVE_UP_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 3.0
_STALL_SECONDS: Final = 15.0


class ObjectStore(SharedStore):
    """See the module. WrongStorageError where no connection could ever be made as `config` says."""

    most = 4 << 40

    def __init__(self, config: ObjectsConfig) -> None:
        self.place = config.place
        self._store = _connect(config)

    async def put(self, name: str, source: bytes | Path) -> None:
        import obstore

        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        part = max(_PART_BYTES, -(-size // _PARTS_MOST))
        with self._told(name):
            await obstore.put_async(
                self._store, name, source, use_multipart=size > part, chunk_size=part, max_concurrency=_PARTS_AT_ONCE
            )

    async def get(self, name: str, target: Path) -> None:
        import obstore

        with target.open("wb", buffering=0) as file, self._told(name, reading=True):
            answer = await obstore.get_async(self._store, name)
            async for piece in answer.stream(min_chunk_size=_PIECE_BYTES):
                await asyncio.to_thread(file.write, piece)

    async def read(self, name: str) -> bytes:
        import obstore

        with self._told(name, reading=True):
            answer = await obstore.get_async(self._store, name)
            return bytes(await answer.bytes_async())

    async def digest(self, name: str) -> bytes:
        import obstore

        hasher = ContentHasher()
        with self._told(name, reading=True):
            answer = await obstore.get_async(self._store, name)
            async for piece in answer.stream(min_chunk_size=_PIECE_BYTES):
                await asyncio.to_thread(hasher.update, memoryview(piece))
        return hasher.digest()

    async def size(self, name: str) -> int:
        import obstore

        with self._told(name, reading=True):
            return (await obstore.head_async(self._store, name))["size"]

    async def copy(self, name: str, target: str) -> None:
        import obstore

        with self._told(name, reading=True):
            await obstore.copy_async(self._store, name, target)

    async def delete(self, names: Collection[str]) -> None:
        import obstore

        if names:
            with self._told(f"{len(names)} objects"):
                await obstore.delete_async(self._store, list(names))

    async def names(self, prefix: str) -> AsyncIterator[str]:
        import obstore

        with self._told(prefix):
            async for found in obstore.list(self._store, prefix, chunk_size=1000):
                for each in found:
                    yield each["path"]

    async def close(self) -> None:
        """The library ends its connections with itself."""

    @contextmanager
    def _told(self, what: str, *, reading: bool = False) -> Iterator[None]:
        """Its errors in our words."""
        from obstore.exceptions import BaseError, NotFoundError

        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if reading:
                raise MissingError(f"{what} is not in {self.place}") from error
            raise SharedStoreError(f"{self.place}: {what}: {_first_line(error)}") from error
        except (BaseError, OSError) as error:
            raise SharedStoreError(f"{self.place}: {what}: {_first_line(error)}") from error


def _connect(config: ObjectsConfig) -> S3Store:
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    settings: S3Config = {"region": config.region, "virtual_hosted_style_request": not config.endpoint}
    if config.endpoint:
        settings["endpoint"] = config.endpoint
    options: ClientConfig = {
        "allow_http": config.plain,
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=_STALL_SECONDS),
        "timeout": timedelta(days=1),  # of a whole request, however large; one that stalls ends by the one above
    }
    if config.authority is not None:
        options["root_certificate"] = config.authority.read_bytes()
    provider = None
    if config.credentials is not None:
        folder = config.credentials

        def provider() -> S3Credential:
            return {
                "access_key_id": secret(folder, "access-key-id"),
                "secret_access_key": secret(folder, "secret-access-key"),
                "token": secret(folder, "session-token", optional=True) or None,
                "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIALS_SECONDS),
            }

    try:
        return S3Store(
            config.bucket,
            prefix=config.prefix.strip("/"),
            config=settings,
            client_options=options,
            retry_config={
                "max_retries": _ATTEMPTS,
                "retry_timeout": timedelta(seconds=_GIVE_UP_SECONDS),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
            },
            credential_provider=provider,
        )
    except (BaseError, ValueError) as error:
        # Also of http://, since the library makes ready for TLS in any case.
        trusted = f"those in {config.authority}" if config.authority is not None else "those of this machine"
        raise WrongStorageError(
            f"storage.objects: {config.place} can't be used with the authorities' certificates that are there, "
            f"{trusted}: expected PEM certificates; install the package ca-certificates, or put them into the file "
            f"ca.pem of the directory that storage.objects.credentials names ({_in_one_line(error)})"
        ) from error


def _first_line(error: BaseException) -> str:
    """The library's texts go on with all that it knows of the request."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


def _in_one_line(error: BaseException) -> str:
    """The library tells the cause last, over many lines."""
    return " ".join(str(error).split())[:500]
