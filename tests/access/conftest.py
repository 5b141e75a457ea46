"""A hub whose users have roles."""

from __future__ import annotations

from tests.hub.conftest import empty_server, hub, members, person

__all__ = ["empty_server", "hub", "members", "person"]
