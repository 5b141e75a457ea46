"""What is committed is there after any end of the process; what is not committed never was."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_agent.log import (
    Batch,
    CoordinatorLog,
    LogBusyError,
    LogError,
    LogFullError,
    Position,
    SchemaTooNewError,
    Sent,
    schema,
)


def batch(*records: bytes) -> Batch:
    return Batch(records=b" ".join(records), count=len(records))


def test_a_commit_is_there_when_the_log_is_opened_again(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path)
    log_id = log.log_id
    first = Batch(
        records=b"one two",
        count=2,
        outbox=[("hub", b"h1"), ("peer/b", b"b1"), ("hub", b"h2")],
        received={"peer/b": Position(b"B", 7)},
        meta={"peers": b"directory"},
    )
    assert log.commit(first) == [Sent("hub", 1, b"h1"), Sent("peer/b", 1, b"b1"), Sent("hub", 2, b"h2")]
    log.close()

    log = CoordinatorLog.open(tmp_path)
    assert log.log_id == log_id
    assert list(log.records()) == [b"one two"]
    assert log.outbox("hub") == [(1, b"h1"), (2, b"h2")]
    assert log.outbox("peer/b") == [(1, b"b1")]
    assert log.received() == {"peer/b": Position(b"B", 7)}
    assert log.meta("peers") == b"directory"
    assert log.destinations() == ["hub", "peer/b"]
    log.close()


def test_numbers_go_on_after_everything_was_acked_and_the_log_reopened(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path)
    log.commit(Batch(outbox=[("hub", b"1"), ("hub", b"2")]))
    log.commit(Batch(acked={"hub": 2}))
    assert log.outbox("hub") == []
    log.close()
    log = CoordinatorLog.open(tmp_path)
    assert log.next_seq("hub") == 3
    assert log.commit(Batch(outbox=[("hub", b"3")])) == [Sent("hub", 3, b"3")]
    log.close()


def test_renumbering_keeps_the_messages_and_their_order(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path)
    log.commit(Batch(outbox=[("hub", b"a"), ("hub", b"b"), ("hub", b"c"), ("peer/x", b"x")]))
    log.commit(Batch(acked={"hub": 1}))
    assert log.renumber("hub", 10) == [(10, b"b"), (11, b"c")]
    assert log.outbox("hub") == [(10, b"b"), (11, b"c")]
    assert log.next_seq("hub") == 12
    assert log.renumber("hub", 1) == [(1, b"b"), (2, b"c")]
    assert log.outbox("peer/x") == [(1, b"x")]
    log.close()


def test_a_snapshot_takes_the_place_of_the_records_before_it(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path, snapshot_records=3)
    log.commit(batch(b"1", b"2"))
    assert not log.snapshot_due
    log.commit(batch(b"3"))
    assert log.snapshot_due
    log.take_snapshot(b"state after 3")
    assert not log.snapshot_due
    log.commit(batch(b"4"))
    log.close()
    log = CoordinatorLog.open(tmp_path, snapshot_records=3)
    assert log.snapshot() == b"state after 3"
    assert list(log.records()) == [b"4"]
    log.close()


def test_snapshots_of_a_large_state_are_taken_less_often(tmp_path: Path) -> None:
    """So that their cost stays in proportion to what is logged."""
    log = CoordinatorLog.open(tmp_path, snapshot_records=2)
    log.commit(batch(b"1", b"2"))
    log.take_snapshot(bytes(1000))
    log.commit(batch(b"3", b"4", b"5"))
    assert not log.snapshot_due
    log.commit(batch(bytes(1000)))
    assert log.snapshot_due
    log.close()


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path / "state")
    log.commit(batch(b"secret"))
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    log.close()


def test_a_second_process_is_told_who_has_the_log(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path)
    with pytest.raises(LogBusyError, match="runs already"):
        CoordinatorLog.open(tmp_path)
    log.close()
    CoordinatorLog.open(tmp_path).close()


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    CoordinatorLog.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "coordinator.db") as other:
        other.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(schema.SCHEMA + 1).encode(),))
    other.close()
    with pytest.raises(SchemaTooNewError, match="newer version"):
        CoordinatorLog.open(tmp_path)


def test_an_older_schema_is_copied_aside_before_it_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CoordinatorLog.open(tmp_path)
    log.commit(batch(b"old"))
    log.close()

    def upgrade(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE records SET body = CAST(body || '!' AS BLOB)")

    monkeypatch.setattr(schema, "UPGRADES", {schema.SCHEMA: upgrade})
    monkeypatch.setattr(schema, "SCHEMA", schema.SCHEMA + 1)
    log = CoordinatorLog.open(tmp_path)
    assert list(log.records()) == [b"old!"]
    log.close()
    monkeypatch.undo()
    copy = tmp_path / f"coordinator.db.schema-{schema.SCHEMA}"
    (tmp_path / "before").mkdir()
    shutil.copy(copy, tmp_path / "before" / "coordinator.db")
    log = CoordinatorLog.open(tmp_path / "before")
    assert list(log.records()) == [b"old"]
    log.close()


def test_a_full_disk_is_told_and_nothing_of_the_batch_is_in_the_log(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path)
    log.commit(batch(b"before"))
    log._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(LogFullError, match="Free some space"):
        log.commit(Batch(records=os.urandom(200_000), count=1, outbox=[("hub", b"never")]))
    assert list(log.records()) == [b"before"]
    assert log.next_seq("hub") == 1
    log.close()


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'process' or 'power'"):
        CoordinatorLog.open(tmp_path, durability="hope")


def test_a_file_that_is_no_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "coordinator.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LogError, match=r"coordinator\.db"):
        CoordinatorLog.open(tmp_path)


def test_a_torn_end_of_the_wal_loses_whole_commits_from_the_end_only(tmp_path: Path) -> None:
    """Wherever a write is torn, what is left is what some moment's log was."""
    state = tmp_path / "whole"
    log = CoordinatorLog.open(state)
    for number in range(40):
        log.commit(Batch(records=bytes([number] * 3), count=3, outbox=[("hub", bytes([number]))]))
    chance = random.Random(7)
    wal = (state / "coordinator.db-wal").read_bytes()
    for trial in range(12):
        torn = tmp_path / f"torn-{trial}"
        torn.mkdir()
        shutil.copy(state / "coordinator.db", torn)
        cut = chance.randrange(len(wal))
        garbage = chance.randbytes(chance.randrange(3000))
        (torn / "coordinator.db-wal").write_bytes(wal[:cut] + garbage)
        again = CoordinatorLog.open(torn)
        records = list(again.records())
        commits = len(records)
        assert records == [bytes([number] * 3) for number in range(commits)]
        assert again.outbox("hub") == [(number + 1, bytes([number])) for number in range(commits)]
        again.close()
    log.close()


WRITER = """
import sys
from pathlib import Path
from cluster_agent.log import Batch, CoordinatorLog, Position
log = CoordinatorLog.open(Path(sys.argv[1]), durability=sys.argv[2], snapshot_records=50)
number = int.from_bytes(log.snapshot() or b"", "big") + sum(1 for _ in log.records())
while True:
    number += 1
    log.commit(Batch(records=b"%d" % number, count=1, outbox=[("hub", b"%d" % number)],
                     received={"peer/b": Position(b"B", number)}, acked={"hub": number - 3}))
    if log.snapshot_due:
        log.take_snapshot(number.to_bytes(8, "big"))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("durability", ["process", "power"])
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, durability: str) -> None:
    """A writer says each number once it is committed; it is killed in the middle, again and again."""
    said = 0
    for round_ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), durability], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(60 + 37 * round_):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
        writer.stdout.close()
        writer.wait()
        log = CoordinatorLog.open(tmp_path)
        count = int.from_bytes(log.snapshot() or b"", "big") + sum(1 for _ in log.records())
        assert said <= count <= said + 1
        assert log.received()["peer/b"] == Position(b"B", count)
        assert log.next_seq("hub") == count + 1
        assert [seq for seq, _ in log.outbox("hub")] == list(range(max(1, count - 2), count + 1))
        log.close()


def test_a_checkpoint_beside_commits_keeps_them(tmp_path: Path) -> None:
    log = CoordinatorLog.open(tmp_path)
    for number in range(50):
        log.commit(batch(b"%d" % number))
        if number % 10 == 0:
            log.checkpoint()
    log.close()
    log = CoordinatorLog.open(tmp_path)
    assert len(list(log.records())) == 50
    log.close()
