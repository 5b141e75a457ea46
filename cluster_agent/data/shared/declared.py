"""From what the topology says of a cluster's storage to what its nodes are told: credentials become directories."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cluster_agent.data.shared.config import ObjectsConfig, RedisConfig, SharedConfig
from topology.storage import Storage

AUTHORITY: Final = "ca.pem"  # among a place's credentials: the certificates that its own is checked with


def shared_config(storage: Storage, credentials: Path) -> SharedConfig:
    """The shared places; each one's credentials are the files of a directory below `credentials`, by its name."""
    redis, objects = storage.redis, storage.objects
    return SharedConfig(
        redis=RedisConfig(
            redis.url,
            credentials=_below(credentials, redis.credentials),
            authority=_authority(credentials, redis.credentials),
            prefix=redis.prefix,
        )
        if redis is not None
        else None,
        objects=ObjectsConfig(
            bucket=objects.bucket,
            endpoint=objects.endpoint or "",
            prefix=objects.prefix,
            region=objects.region,
            credentials=_below(credentials, objects.credentials),
            authority=_authority(credentials, objects.credentials),
            plain=objects.plain,
        )
        if objects is not None
        else None,
    )


def _below(directory: Path, name: str | None) -> Path | None:
    return directory / name if name is not None else None


def _authority(directory: Path, name: str | None) -> Path | None:
    file = directory / name / AUTHORITY if name is not None else None
    return file if file is not None and file.is_file() else None
