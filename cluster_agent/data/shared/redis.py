"""A Redis as a shared place: for small contents, which many nodes want soon and nobody for long.

    <prefix>:<name>        the content
    <prefix>:in:<directory>  a set: the names in a directory, so that it is swept without a look at all keys

Both expire: what a crash left behind goes by itself, and a Redis is never filled by us for ever. One that evicts, or
refuses more because it is full, only makes units be had in the ordinary way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.config import RedisConfig, secret
from cluster_agent.data.shared.errors import MissingError, SharedStoreError
from cluster_agent.data.shared.names import directory

if TYPE_CHECKING:
    import redis.asyncio as client

_CONNECTIONS: Final = 8
_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 5.0
_ATTEMPTS: Final = 1  # further ones, of a command whose connection broke


class RedisStore(SharedStore):
    """See the module."""

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        self.place = config.place
        self.most = config.most
        self._client = _connect(config)

    async def put(self, name: str, source: bytes | Path) -> None:
        data = source if isinstance(source, bytes) else await asyncio.to_thread(source.read_bytes)
        await self.put_many({name: data})

    async def put_many(self, contents: Mapping[str, bytes]) -> None:
        with self._told():
            pipeline = self._client.pipeline(transaction=False)
            directories = {directory(name) for name in contents}
            for each in directories:  # the names first: a content that no set names would not be swept
                names = [name for name in contents if directory(name) == each]
                pipeline.sadd(self._set(each), *names)
                pipeline.expire(self._set(each), self._config.seconds)
            for name, data in contents.items():
                pipeline.set(self._key(name), data, ex=self._config.seconds)
            await pipeline.execute()

    async def get(self, name: str, target: Path) -> None:
        data = await self.read(name)
        await asyncio.to_thread(target.write_bytes, data)

    async def read(self, name: str) -> bytes:
        (data,) = await self.read_many([name])
        if data is None:
            raise MissingError(f"{name} is not in {self.place}")
        return data

    async def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        with self._told():
            answers: list[bytes | None] = await self._client.mget([self._key(name) for name in names])  # type: ignore[assignment]
            return answers

    async def delete(self, names: Collection[str]) -> None:
        if not names:
            return
        with self._told():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.unlink(*(self._key(name) for name in names))
            for each in {directory(name) for name in names}:
                pipeline.srem(self._set(each), *(name for name in names if directory(name) == each))
            await pipeline.execute()

    async def names(self, prefix: str) -> AsyncIterator[str]:
        with self._told():
            async for name in self._client.sscan_iter(self._set(prefix)):
                yield name.decode()

    async def close(self) -> None:
        with self._told():
            await self._client.aclose()

    def _key(self, name: str) -> str:
        return f"{self._config.prefix}:{name}"

    def _set(self, prefix: str) -> str:
        return f"{self._config.prefix}:in:{prefix}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Its errors in our words."""
        from redis.exceptions import RedisError

        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise SharedStoreError(f"{self.place}: {error or type(error).__name__}") from error


def _connect(config: RedisConfig) -> client.Redis:
    import redis.asyncio as client
    from redis.asyncio.retry import Retry
    from redis.backoff import EqualJitterBackoff
    from redis.credentials import CredentialProvider

    class Files(CredentialProvider):
        """Read when a connection is made."""

        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            assert config.credentials is not None
            user = secret(config.credentials, "username", optional=True)
            password = secret(config.credentials, "password")
            return (user, password) if user else (password,)

        async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
            return self.get_credentials()  # small files; the library warns of those who leave it to do so itself

    host, port, database, tls = config.address
    options: dict[str, Any] = {"credential_provider": Files()} if config.credentials is not None else {}
    if tls:
        options |= {"ssl": True, "ssl_ca_certs": str(config.authority) if config.authority else None}
    return client.Redis(
        host=host,
        port=port,
        db=database,
        max_connections=_CONNECTIONS,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        retry=Retry(EqualJitterBackoff(cap=1.0, base=0.05), _ATTEMPTS),
        protocol=2,  # which every release speaks
        **options,
    )
