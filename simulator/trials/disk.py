"""What outlives a process: an agent's log, which is the production log over a database in memory; a node's journal.

A crash leaves of a log what was committed, since SQLite's transactions are whole or not at all; of a commit that is
under way it leaves either. Of a journal it leaves what was flushed, with the last record perhaps torn off where it was
not; a loss of power leaves what was synced, and as much of the rest as had come to the disk by chance.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from cluster_agent.data.base import Damage
from cluster_agent.data.base import UnitKey as NamedKey
from cluster_agent.log import Batch, CoordinatorLog, LogFullError
from cluster_agent.log.batch import Sent
from cluster_agent.log.schema import prepare
from cluster_agent.orders.messages import Result
from simulator.trials.loop import SYNC_SECONDS, Killed

UnitKey = tuple[str, str, bytes]
ResultKey = tuple[str, str, bytes, int]


class LogDisk:
    """The disk of an agent. `full`: no more can be written."""

    def __init__(self, log_id: bytes, snapshot_records: int) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._snapshot_records = snapshot_records
        prepare(self._database, Path("coordinator.db"), log_id)
        self.full = False
        self.kill_at_commit = ""  # before or after: the next commit ends its process then, by `kill`
        self.kill: Callable[[], None] = lambda: None
        self.committed: Callable[[Batch], None] = lambda _: None

    def open(self) -> Log:
        """As a new process finds it."""
        return Log(self._database, self, self._snapshot_records)

    def close(self) -> None:
        """The trial is over."""
        self._database.close()


class Log(CoordinatorLog):
    """The production log, on a disk that may be full, in a process that may be killed as it writes."""

    def __init__(self, database: sqlite3.Connection, disk: LogDisk, snapshot_records: int) -> None:
        super().__init__(database, Path("coordinator.db"), -1, snapshot_records)
        self._disk = disk

    def commit(self, batch: Batch) -> list[Sent]:
        """See CoordinatorLog."""
        if self._disk.full:
            raise LogFullError("coordinator.db: no room left on its disk")
        when, self._disk.kill_at_commit = self._disk.kill_at_commit, ""
        if when == "before":
            self._disk.kill()
            raise Killed
        sent = super().commit(batch)
        self._disk.committed(batch)
        if when == "after":
            self._disk.kill()
            raise Killed
        return sent

    def checkpoint(self) -> None:
        """See CoordinatorLog. A database in memory has nothing to copy."""

    def close(self) -> None:
        """See CoordinatorLog. The disk stays."""


Entry = tuple[str, Any, Any]
_ROTTEN = b"rotten "
NODE_BYTES = 1_000_000  # what a node's disk takes: more than any trial has


class Journal:
    """A node's disk: units and results that are told to it, in the order in which they came.

    Serves as the store that `Finishing` writes to, and that windows look into: `journal` and `space` are itself.
    `durability` is process or power. It takes `size` bytes of units; `changed` hears when there is other room for them,
    `entered` when there is a unit more, `listeners` when some were freed.
    """

    def __init__(self, random: Random) -> None:
        self.journal = self.space = self
        self.durability = "process"
        self.full = False
        self.size = NODE_BYTES
        self.stored = 0
        self.changed: Callable[[], None] = lambda: None
        self.entered: Callable[[], None] = lambda: None
        self.listeners: list[Callable[[], None]] = []
        self.units: dict[UnitKey, tuple[bytes, int]] = {}  # digest, size
        self.on_damage: Callable[[Damage], None] = lambda _: None
        self._results: dict[ResultKey, Result] = {}
        self._random = random
        self._entries: list[Entry] = []
        self._flushed = 0
        self._synced = 0

    @property
    def free_bytes(self) -> int:
        """What it takes still."""
        return max(0, self.size - self.stored)

    def resize(self, size: int) -> None:
        """Others leave more or less of the disk."""
        self.size = size
        self.changed()

    def has_room(self, units: Iterable[tuple[UnitKey, int]]) -> bool:
        """Whether these fit, as far as they are not here already."""
        return sum(size for key, size in units if key not in self.units) <= self.free_bytes

    def put(self, key: UnitKey, digest: bytes, size: int) -> None:
        """A unit is here."""
        self._do(("put", key, (digest, size)))
        self.changed()
        self.entered()

    def holds(self, key: UnitKey) -> bool:
        """Whether a unit is here."""
        return key in self.units

    async def free(self, keys: Iterable[UnitKey]) -> None:
        """See DiskStore."""
        self.drop(keys)

    def drop(self, keys: Iterable[UnitKey]) -> None:
        """These are not needed any more."""
        for key in keys:
            if key in self.units:
                self._do(("free", key, None))
        self.changed()
        for listener in self.listeners:
            listener()

    def rot(self, share: float, random: Random) -> None:
        """The bytes of such a share of the units are others from now on, and nobody knows."""
        for key in random.sample(list(self.units), round(len(self.units) * share)):
            if not self.is_rotten(key):
                digest, size = self.units[key]
                self._do(("put", key, (_ROTTEN + digest, size)))

    def is_rotten(self, key: UnitKey) -> bool:
        """Whether whoever reads a unit here would find other bytes than it had."""
        return key in self.units and self.units[key][0].startswith(_ROTTEN)

    def read(self, key: UnitKey) -> bool:
        """Whether a unit is here and right; what is rotten is found by that, dropped and told."""
        if self.is_rotten(key):
            digest, size = self.units[key]
            self.drop([key])
            self.on_damage(Damage((NamedKey(*key),), digest.removeprefix(_ROTTEN), size, "its bytes are others"))
        return key in self.units

    def scrub(self) -> None:
        """Read all that is here."""
        for key in list(self.units):
            self.read(key)

    def result(self, namespace: str, run: str, result: Result) -> None:
        """A result that is to be told."""
        self._do(("result", (namespace, run, result.task, result.attempt), result))

    def acked(self, namespace: str, run: str, tasks: Iterable[tuple[bytes, int]]) -> None:
        """These were heard, or are not wanted."""
        for task, attempt in tasks:
            if (namespace, run, task, attempt) in self._results:
                self._do(("acked", (namespace, run, task, attempt), None))

    def results(self) -> list[tuple[str, str, Result]]:
        """Those that were not acknowledged."""
        return [(key[0], key[1], result) for key, result in self._results.items()]

    def flush(self) -> None:
        """Write what was told. OSError."""
        if self.full and self._flushed < len(self._entries):
            raise OSError(28, "No space left on device")
        self._flushed = len(self._entries)

    async def durable(self) -> None:
        """Write and sync what was told. OSError."""
        self.flush()
        upto = self._flushed
        await asyncio.sleep(SYNC_SECONDS)
        self._synced = max(self._synced, upto)

    def crash(self, *, power: bool) -> None:
        """The process is gone, or the power was."""
        left = self._random.randint(self._synced, self._flushed) if power else self._flushed
        entries = self._entries[:left]
        self._entries, self.units, self._results, self.stored = [], {}, {}, 0
        for entry in entries:
            self._do(entry)
        self._flushed = self._synced = len(self._entries)

    def lose(self) -> None:
        """The disk was replaced: nothing is there."""
        self._entries, self.units, self._results, self.stored = [], {}, {}, 0
        self._flushed = self._synced = 0

    def _do(self, entry: Entry) -> None:
        self._entries.append(entry)
        match entry:
            case ("put", key, content):
                self.stored += content[1] - self.units.get(key, (b"", 0))[1]
                self.units[key] = content
            case ("free", key, _):
                self.stored -= self.units.pop(key, (b"", 0))[1]
            case ("result", key, result):
                self._results[key] = result
            case ("acked", key, _):
                self._results.pop(key, None)
