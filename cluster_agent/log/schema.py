"""The log's tables and how an older file becomes one of today.

A file that a newer program wrote is refused; one of an older program is copied aside before it is changed, so that the
older program can be put back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster_agent.log.errors import SchemaTooNewError

SCHEMA = 1

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE records (seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE outbox (
    destination TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (destination, seq)
) WITHOUT ROWID;
CREATE TABLE numbering (destination TEXT PRIMARY KEY, next_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE inbox (source TEXT PRIMARY KEY, log_id BLOB NOT NULL, received INTEGER NOT NULL) WITHOUT ROWID;
"""

Upgrade = Callable[[sqlite3.Connection], None]
UPGRADES: Mapping[int, Upgrade] = {}
"""schema -> what makes it the next one. Runs within one transaction."""


def prepare(connection: sqlite3.Connection, path: Path, log_id: bytes) -> None:
    """Make the tables in an empty file (its log gets `log_id`), or bring those of an older one up to date."""
    found = _schema_of(connection)
    if found is None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('schema', ?), ('log_id', ?)", (str(SCHEMA).encode(), log_id))
        connection.execute("COMMIT")
        return
    if found > SCHEMA:
        raise SchemaTooNewError(
            f"{path} has schema {found}, this program knows {SCHEMA}: it was written by a newer version. "
            "Start that version, or restore the copy that it put beside the file before it upgraded."
        )
    if found < SCHEMA:
        _upgrade(connection, path, found)


def _upgrade(connection: sqlite3.Connection, path: Path, found: int) -> None:
    copy = path.with_name(f"{path.name}.schema-{found}")
    copy.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(copy),))
    copy.chmod(0o600)
    connection.execute("BEGIN IMMEDIATE")
    for version in range(found, SCHEMA):
        UPGRADES[version](connection)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA).encode(),))
    connection.execute("COMMIT")


def _schema_of(connection: sqlite3.Connection) -> int | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return None
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    return int(row[0])
