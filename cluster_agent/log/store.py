"""The log as a SQLite file in WAL mode.

    driver ── commit(batch) ──▶ one transaction: records + outbox + inbox + acked rows removed
    start  ── snapshot() + records() ──▶ core;  outbox()/received() ──▶ the sessions with hub and peers

Under `process` durability a commit is a write into the page cache, made inline: it survives the death of the process.
Under `power` it is synced, in a thread of the driver's choosing. Checkpoints (copying the WAL into the file, the only
part of `process` that syncs) are made by `checkpoint`, on a second connection, so that no commit waits for a disk.

One thread at a time may call anything but `checkpoint`. The directory is locked against a second process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cluster_agent.log.batch import Batch, Position, Sent
from cluster_agent.log.errors import LogBusyError, LogError, LogFullError
from cluster_agent.log.schema import prepare

FILE = "coordinator.db"
_CHECKPOINT_BYTES = 8 << 20
_SNAPSHOT_RECORDS = 10_000
_BLOB_BYTES = 512 << 20  # SQLite takes no value beyond 1 GB; half of that leaves time to notice


class CoordinatorLog:
    """An open log. LogError for anything that keeps it from being read or written."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: int, snapshot_records: int) -> None:
        self._db = connection
        self._snapshot_records = snapshot_records
        self._path = path
        self._lock = lock
        self._next: dict[str, int] = dict(connection.execute("SELECT destination, next_seq FROM numbering").fetchall())
        row: tuple[int, int] | None = connection.execute("SELECT seq, length(body) FROM snapshot").fetchone()
        self._snapshot_seq, self._snapshot_bytes = row or (0, 0)
        self._log_id: bytes = connection.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()[0]
        last, count, size = connection.execute(
            "SELECT coalesce(max(seq), 0), coalesce(sum(count), 0), coalesce(sum(length(body)), 0) FROM records"
        ).fetchone()
        self._last = max(last, self._snapshot_seq)
        self._records: int = count
        self._record_bytes: int = size
        self._since_checkpoint = 0

    @classmethod
    def open(
        cls, state: Path, *, durability: str = "process", snapshot_records: int = _SNAPSHOT_RECORDS
    ) -> CoordinatorLog:
        """The log in `state`, made if there is none (mode 0600). `durability` is process or power."""
        if durability not in ("process", "power"):
            raise ValueError(f"durability {durability!r}: expected 'process' or 'power'")
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state / FILE
        lock = _locked(path.with_name(f"{FILE}.lock"))
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            with _explained(path):
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
                prepare(connection, path, os.urandom(16))
                return cls(connection, path, lock, snapshot_records)
        except BaseException:
            os.close(lock)
            raise

    @property
    def log_id(self) -> bytes:
        """16 bytes made with the log: others see by them that our state is the one they know."""
        return self._log_id

    def meta(self, name: str) -> bytes | None:
        """A small value as last committed."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row else None

    def snapshot(self) -> bytes | None:
        """The newest snapshot of the core, if one was ever taken."""
        row = self._db.execute("SELECT body FROM snapshot").fetchone()
        return bytes(row[0]) if row else None

    def records(self) -> Iterator[bytes]:
        """The records since the snapshot, oldest first, as each batch had them."""
        query = "SELECT body FROM records WHERE seq > ? ORDER BY seq"
        for (body,) in self._db.execute(query, (self._snapshot_seq,)):
            yield bytes(body)

    def outbox(self, destination: str) -> list[tuple[int, bytes]]:
        """What `destination` has not acked, in order."""
        query = "SELECT seq, body FROM outbox WHERE destination = ? ORDER BY seq"
        return [(seq, bytes(body)) for seq, body in self._db.execute(query, (destination,))]

    def next_seq(self, destination: str) -> int:
        """The number that the next message to `destination` gets."""
        return self._next.get(destination, 1)

    def destinations(self) -> list[str]:
        """All to whom a message was ever put into the outbox."""
        return sorted(self._next)

    def received(self) -> dict[str, Position]:
        """How far each source's messages are dealt with."""
        rows = self._db.execute("SELECT source, log_id, received FROM inbox")
        return {source: Position(bytes(log_id), received) for source, log_id, received in rows}

    def commit(self, batch: Batch) -> list[Sent]:
        """Put the batch into the log, whole. Returns its outgoing messages with their numbers.

        LogFullError, LogError: nothing of it is in the log.
        """
        sent = []
        numbered = dict[str, int]()
        for destination, body in batch.outbox:
            seq = numbered.get(destination) or self.next_seq(destination)
            numbered[destination] = seq + 1
            sent.append(Sent(destination, seq, body))
        written = len(batch.records)
        db = self._db
        with _Transaction(db, self._path):
            if batch.records:
                row = (self._last + 1, batch.count, batch.records)
                db.execute("INSERT INTO records VALUES (?, ?, ?)", row)
            if sent:
                db.executemany("INSERT INTO outbox VALUES (?, ?, ?)", sent)
                db.executemany("INSERT OR REPLACE INTO numbering VALUES (?, ?)", numbered.items())
            if batch.received:
                db.executemany(
                    "INSERT OR REPLACE INTO inbox VALUES (?, ?, ?)",
                    [(source, at.log_id, at.seq) for source, at in batch.received.items()],
                )
            if batch.acked:
                db.executemany("DELETE FROM outbox WHERE destination = ? AND seq <= ?", batch.acked.items())
            if batch.meta:
                db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", batch.meta.items())
        self._next.update(numbered)
        self._last += 1 if batch.records else 0
        self._records += batch.count
        self._record_bytes += written
        # Pages are written whole: a small batch costs a few of them.
        self._since_checkpoint += written + sum(len(message.body) for message in sent) + 8192
        return sent

    def renumber(self, destination: str, first: int) -> list[tuple[int, bytes]]:
        """Number what `destination` has not acked from `first` on: it knows another number than we do.

        Returns the messages with their new numbers.
        """
        renumbered = [(first + index, body) for index, (_, body) in enumerate(self.outbox(destination))]
        following = first + len(renumbered)
        db = self._db
        with _Transaction(db, self._path):
            db.execute("DELETE FROM outbox WHERE destination = ?", (destination,))
            db.executemany(
                "INSERT INTO outbox VALUES (?, ?, ?)", [(destination, seq, body) for seq, body in renumbered]
            )
            db.execute("INSERT OR REPLACE INTO numbering VALUES (?, ?)", (destination, following))
        self._next[destination] = following
        return renumbered

    @property
    def snapshot_due(self) -> bool:
        """Whether replaying the records would cost more than taking a snapshot is likely to."""
        return self._records >= self._snapshot_records and self._record_bytes >= self._snapshot_bytes

    def take_snapshot(self, body: bytes) -> None:
        """Keep `body` as the core's state after all records so far, and drop those."""
        if len(body) > _BLOB_BYTES:
            raise LogError(f"the coordinator's state is {len(body)} bytes, more than a snapshot can hold")
        db = self._db
        with _Transaction(db, self._path):
            db.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?)", (self._last, body))
            db.execute("DELETE FROM records")
        self._snapshot_seq, self._snapshot_bytes = self._last, len(body)
        self._records = self._record_bytes = 0
        self._since_checkpoint += len(body)

    @property
    def checkpoint_due(self) -> bool:
        """Whether the WAL has grown enough to be copied into the file."""
        return self._since_checkpoint >= _CHECKPOINT_BYTES

    def checkpoint_started(self) -> None:
        """Count from here to the next checkpoint."""
        self._since_checkpoint = 0

    def checkpoint(self) -> None:
        """Copy the WAL into the file. May run in another thread beside commits, which don't wait for it."""
        with _explained(self._path), closing(sqlite3.connect(self._path, timeout=10)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the file and let another process have it."""
        with _explained(self._path):
            self._db.close()
        os.close(self._lock)


def _locked(path: Path) -> int:
    """The descriptor of a file that this process alone has locked; the kernel unlocks it when the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise LogBusyError(
            f"{path.parent} is the state of an agent that runs already. "
            "Stop that one, or give this one another directory."
        ) from error
    return descriptor


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours, which say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _in_our_words(error, path) from error


class _Transaction:
    """All of it or nothing, with SQLite's errors in our words."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _in_our_words(error, self._path) from error

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error as failed:
                error = failed
        if error is None:
            return
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise _in_our_words(error, self._path) from error


def _in_our_words(error: sqlite3.Error, path: Path) -> LogError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return LogFullError(
            f"{path}: no room left on its disk. Nothing that was not logged was acknowledged or started. "
            "Free some space, then start the agent again."
        )
    return LogError(f"{path}: {error}. The agent stops, because it can't log what it does.")
