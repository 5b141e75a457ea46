"""Fixtures of the node daemon's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.objects import ObjectStore
from tests.fixtures.shared import S3Server
from tests.node.cluster import Cluster, cluster


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster with a fake agent and no nodes yet."""
    async with cluster(tmp_path) as made:
        yield made


@pytest.fixture
def storage(s3_server: S3Server) -> SharedConfig:
    """A node's bucket, as it is told of it."""
    return SharedConfig(objects=s3_server.config())


@pytest.fixture
async def bucket(storage: SharedConfig) -> AsyncIterator[ObjectStore]:
    """That bucket, as tests look into it."""
    assert storage.objects is not None
    made = ObjectStore(storage.objects)
    yield made
    await made.close()
