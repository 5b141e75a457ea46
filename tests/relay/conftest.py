"""Each test has an authority of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.relay.relays import Federation, federation


@pytest_asyncio.fixture
async def members(tmp_path: Path) -> AsyncIterator[Federation]:
    """Relays and members, which are closed after the test."""
    async with federation(tmp_path) as made:
        yield made
