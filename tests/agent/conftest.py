"""Fixtures of the agent's tests: certificates, and a hub that does what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.federation import FakeHub, Members, Served, served_hub


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path / "certificates")


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def hub_server(members: Members, hub: FakeHub) -> AsyncIterator[Served]:
    async with served_hub(members, hub) as server:
        yield server
