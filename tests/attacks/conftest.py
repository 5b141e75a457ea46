"""A hub and nodes' data sides to be attacked, over loopback."""

from __future__ import annotations

from tests.data.conftest import network
from tests.hub.conftest import empty_server, hub, members, person

__all__ = ["empty_server", "hub", "members", "network", "person"]
