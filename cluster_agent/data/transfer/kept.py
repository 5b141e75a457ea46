"""Bytes of transfers that broke off: kept for whoever asks for them again, and deleted once nobody will.

    a transfer fails ─▶ broke_off: kept for the units that wanted it ─▶ forget of the last of them: deleted
    a daemon starts  ─▶ what is there is of an earlier life ─▶ drop_earlier, a while later: what nobody asked for goes

An agent asks for all that it wants of a node as soon as the node is attached again. What it does not ask for then came
on another way, or to another node, or is not needed any more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import TRANSFER
from cluster_agent.data.transfer.partial import remove

EARLIER_SECONDS: Final = 600.0  # after the start


class Kept:
    """What is kept in `directory`. `arriving` tells whether a transfer of a digest is under way; its file stays."""

    def __init__(self, directory: Path, arriving: Callable[[bytes], bool]) -> None:
        self._directory = directory
        self._arriving = arriving
        self._for: dict[UnitKey, bytes] = {}
        found = (TRANSFER.fullmatch(path.name) for path in directory.iterdir())
        self._earlier = {bytes.fromhex(name[1]) for name in found if name}

    def broke_off(self, digest: bytes, key: UnitKey) -> None:
        """The transfer that was to bring this unit has failed."""
        self._for[key] = digest

    def forget(self, key: UnitKey) -> None:
        """The unit is not wanted any more."""
        digest = self._for.pop(key, None)
        if digest is not None:
            self.drop(digest)

    def forget_run(self, namespace: str, run: str) -> None:
        """No unit of the run is wanted any more."""
        for key in [key for key in self._for if (key.namespace, key.run) == (namespace, run)]:
            self.forget(key)

    def drop(self, digest: bytes) -> None:
        """Delete what there is, unless it arrives just now or is kept for somebody."""
        if not self._arriving(digest) and digest not in self._for.values():
            remove(self._directory, digest)

    def drop_earlier(self) -> None:
        """Delete what an earlier life began and nobody has asked for in this one."""
        for digest in self._earlier:
            self.drop(digest)
        self._earlier.clear()
