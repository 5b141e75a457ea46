"""Fixtures of the node daemon's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.shared import redis_server, s3_server
from tests.node.cluster import Cluster, cluster

__all__ = ["redis_server", "s3_server"]


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster with a fake agent and no nodes yet."""
    async with cluster(tmp_path) as made:
        yield made
