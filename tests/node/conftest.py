"""Fixtures of the node daemon's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.node.cluster import Cluster, cluster


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster with a fake agent and no nodes yet."""
    async with cluster(tmp_path) as made:
        yield made
