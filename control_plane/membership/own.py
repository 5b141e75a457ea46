"""The hub's own certificate, where it has the authority: it needs nobody to renew it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from control_plane.membership.joining import Issuing
from wire.identity import Credentials, Identity, Role

_DAY = 86_400.0


class OwnCertificate:
    """Made anew at each start and, by `keep`, whenever two thirds of its life are over. Servers take the new one."""

    def __init__(self, issuing: Issuing, directory: Path) -> None:
        self._issuing = issuing
        self._directory = directory

    def issue(self) -> Credentials:
        """A new one."""
        days = (self._issuing.life + self._issuing.grace) / _DAY
        return self._issuing.authority.issue(Identity(Role.HUB, "hub"), self._directory, days=days, loopback=False)

    async def keep(self) -> None:
        """Run by the hub as long as it lives."""
        while True:
            await asyncio.sleep(self._issuing.renew_after)
            self.issue()
