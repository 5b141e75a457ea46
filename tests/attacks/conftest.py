"""A hub and nodes' data sides to be attacked, over loopback."""

from __future__ import annotations

from tests.data.conftest import network
from tests.hub.conftest import hub, members, own_server, person

__all__ = ["hub", "members", "network", "own_server", "person"]
