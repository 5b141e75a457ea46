"""From what the topology says of a cluster's storage to what its nodes are told: credentials become directories."""

from __future__ import annotations

from pathlib import Path

from cluster_agent.data.shared.config import ObjectsConfig, RedisConfig, SharedConfig
from topology.storage import Storage


def shared_config(storage: Storage, credentials: Path) -> SharedConfig:
    """The shared places; each one's credentials are the files of a directory below `credentials`, by its name."""
    redis, objects = storage.redis, storage.objects
    return SharedConfig(
        redis=RedisConfig(redis.url, _below(credentials, redis.credentials)) if redis is not None else None,
        objects=ObjectsConfig(
            bucket=objects.bucket,
            endpoint=objects.endpoint or "",
            prefix=objects.prefix,
            region=objects.region,
            credentials=_below(credentials, objects.credentials),
            plain=objects.plain,
        )
        if objects is not None
        else None,
    )


def _below(directory: Path, name: str | None) -> Path | None:
    return directory / name if name is not None else None
