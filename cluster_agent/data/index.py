"""Which content each unit is a name of: the store's index, and the names in its directories that change with it.

    unit ─▶ small content, in the journal: one for each unit
       └──▶ large content, a file or an object elsewhere: one for each digest, as long as a unit names it

It is in memory, and made again at start from the journal and the directories (see `inventory`). Used from the event
loop only, so that it and the directories change together.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import UnitMissingError
from cluster_agent.data.inventory import Runs
from cluster_agent.data.journal import Journal
from cluster_agent.data.references import REFERENCE, reference_text
from cluster_agent.data.tiers.moving import Moving


class Index:
    """The units of `journal` and `tiers`, which are read at once. `touched` is told what a power failure could take."""

    def __init__(self, journal: Journal, tiers: Moving, touched: Callable[[Path, Path], None]) -> None:
        self.small_bytes = 0
        self.large: dict[bytes, Content] = {}  # by digest, that which further units of it get
        self.small: dict[bytes, Content] = {}  # by digest, the newest of each
        self._runs: Runs = {}
        self._journal = journal
        self._tiers = tiers
        self._touched = touched
        for content in tiers.inventory(self._runs):
            self.large.setdefault(content.digest, content)
        for key, content in list(journal.units()):
            if key.unit in self._runs.get(key[:2], {}):
                journal.free(content)  # its free was not written before the crash; the file is newer
            else:
                self.enter(key, content)

    # ------------------------------------------------------------------------------------------------- questions

    def get(self, key: UnitKey) -> Content | None:
        """The content of a unit."""
        units = self._runs.get((key.namespace, key.run))
        return units.get(key.unit) if units is not None else None

    def find(self, key: UnitKey) -> Content:
        """The same; UnitMissingError."""
        content = self.get(key)
        if content is None:
            raise UnitMissingError(f"unit {key.unit.hex()} of run {key.run} is not in the store")
        return content

    def units(self) -> Iterator[UnitKey]:
        """All units."""
        for (namespace, run), units in self._runs.items():
            for unit in units:
                yield UnitKey(namespace, run, unit)

    def of_run(self, namespace: str, run: str) -> dict[bytes, Content]:
        """All units of a run."""
        return self._runs.get((namespace, run), {})

    # --------------------------------------------------------------------------------------------------- changes

    def enter(self, key: UnitKey, content: Content) -> None:
        """A unit is a content of the journal."""
        units = self._runs.get(key[:2])
        if units is None:
            units = self._runs[key[:2]] = {}
        units[key.unit] = content
        self.small[content.digest] = content
        self.small_bytes += content.size

    def name(self, key: UnitKey, content: Content) -> None:
        """A unit is a large content that lies on a shelf; the newest naming of a unit counts. OSError."""
        former = self.get(key)
        if former is content:
            return
        content.add_name(key)  # before the former goes, which may be the same bytes
        if former is not None:
            self.forget(key)
        assert content.shelf is not None
        try:
            content.shelf.name(key, content)
        except OSError as error:
            self._lose_name(content, key)
            if error.errno != errno.EMLINK:
                raise
            shelf = content.shelf
            content = self.large[content.digest] = shelf.copy(content)  # serves all further units
            content.add_name(key)
            shelf.name(key, content)
        self._runs.setdefault(key[:2], {})[key.unit] = content

    def refer(self, key: UnitKey, content: Content) -> None:
        """A unit is a content that lies elsewhere. OSError."""
        self.forget(key)
        disk = self._tiers.disk
        path = disk.unit_path(key)
        reference = path.with_name(f"{path.name}{REFERENCE}")
        fresh = disk.fresh(content.digest)
        fresh.write_text(reference_text(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(reference)
        content.add_name(key)
        self._runs.setdefault(key[:2], {})[key.unit] = content
        self._touched(reference, path.parent)

    def forget(self, key: UnitKey) -> None:
        """There is no such unit any more; its content goes if no other names it."""
        units = self._runs.get(key[:2], {})
        content = units.pop(key.unit, None)
        if content is None:
            return
        if not units:
            del self._runs[key[:2]]
        if not content.large:
            self._journal.free(content)
            self.small_bytes -= content.size
            if self.small.get(content.digest) is content:
                del self.small[content.digest]
        elif content.shelf is not None:
            content.shelf.unname(key)
            self._lose_name(content, key)
        else:
            self._tiers.disk.unname(key, REFERENCE)
            self._lose_name(content, key)
        if not units:
            for shelf in self._tiers.shelves:
                shelf.tidy(key)

    def _lose_name(self, content: Content, key: UnitKey) -> None:
        assert content.names is not None
        content.names.discard(key)
        if content.names:
            return
        if self.large.get(content.digest) is content:
            del self.large[content.digest]
        if content.shelf is not None:
            content.shelf.discard(content)
        else:
            self._tiers.forget(content)
