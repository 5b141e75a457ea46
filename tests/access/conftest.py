"""A hub whose users have roles."""

from __future__ import annotations

from tests.hub.conftest import hub, members, own_server, person

__all__ = ["hub", "members", "own_server", "person"]
