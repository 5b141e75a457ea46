"""Small units and results in the journal: what was flushed survives any crash, and the disk stays bounded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import ContentChangedError, JournalError, UnitMissingError
from cluster_agent.data.journal import Journal
from cluster_agent.data.store import DiskStore
from cluster_agent.orders.messages import SMALL, Output, Result, UnitInfo
from tests.settings import examples
from wire.digests import bytes_digest


def key(number: int, run: str = "run1") -> UnitKey:
    return UnitKey("default", run, number.to_bytes(16, "big"))


def result(number: int, attempt: int = 1) -> Result:
    made = UnitInfo(number.to_bytes(16, "big"), bytes(32), 3)
    return Result(number.to_bytes(16, "big"), attempt, (Output("out", 0, made),))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    made = DiskStore(tmp_path / "store")
    yield made
    await made.close()


def found(store: DiskStore) -> dict[UnitKey, bytes | None]:
    return {unit: store.read(unit) for unit in store.units()}


def crashed(store: DiskStore) -> DiskStore:
    """The store as a daemon finds it that starts after this one was killed."""
    return DiskStore(store.root)


async def test_what_was_flushed_survives_and_nothing_has_a_file(store: DiskStore, tmp_path: Path) -> None:
    store.put(key(1), b"one")
    store.put(key(2), b"two")
    store.put(key(1, "run2"), b"")
    await store.free([key(2)])
    store.journal.result("default", "run1", result(1))
    store.journal.result("default", "run1", result(2))
    store.journal.acked("default", "run1", [(result(1).task, 1), (b"unknown" * 2, 1)])
    store.flush()
    store.put(key(3), b"not flushed")
    again = crashed(store)
    assert found(again) == {key(1): b"one", key(1, "run2"): b""}
    assert again.journal.results() == [("default", "run1", result(2))]
    assert again.stored_bytes == 3
    assert not list((store.root / "content").iterdir())
    assert not list((store.root / "units").iterdir())
    await again.close()


async def test_one_flush_is_one_write(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real, writes = os.write, []

    def write(file: int, data: bytes) -> int:
        writes.append(len(data))
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    for number in range(100):
        store.put(key(number), b"%d" % number)
    store.journal.result("default", "run1", result(1))
    store.flush()
    store.flush()
    assert len(writes) == 1


async def test_a_small_unit_does_all_that_a_large_one_does(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(b"rows")
    (tmp_path / "dataset").write_bytes(b"theirs")
    made = await store.commit(tmp_path / "output", key(1))
    opened = await store.reference(tmp_path / "dataset", key(2))
    assert (made.digest, made.size, made.path) == (bytes_digest(b"rows"), 4, None)
    assert not (tmp_path / "output").exists()
    (tmp_path / "dataset").write_bytes(b"changed since")
    assert store.find(key(2)).data == b"theirs"
    assert store.has(opened.digest)
    assert store.name(key(3), opened.digest)
    assert store.name(key(3), opened.digest)
    assert not store.name(key(4), bytes(32))
    store.link(key(3), tmp_path / "input")
    assert (tmp_path / "input").read_bytes() == b"theirs"
    assert (tmp_path / "input").stat().st_mode & 0o777 == 0o444
    await store.free([key(1), key(2), key(2), key(9)])
    assert found(store) == {key(3): b"theirs"}
    with pytest.raises(UnitMissingError):
        store.read(key(1))
    await store.end_run("default", "run1", [])
    assert (found(store), store.stored_bytes, store.has(opened.digest)) == ({}, 0, False)


async def test_a_unit_may_become_small_or_large_and_the_newest_counts(store: DiskStore, tmp_path: Path) -> None:
    large = bytes(SMALL + 1)
    for data in (b"small", large, b"other", large):
        (tmp_path / "output").write_bytes(data)
        await store.commit(tmp_path / "output", key(1))
    again = crashed(store)  # the journal's free was not written, the file was
    assert again.find(key(1)).file.read_bytes() == large
    await again.free([key(1)])
    assert (list(again.units()), again.stored_bytes) == ([], 0)
    store.put(key(1), b"small")
    store.flush()
    assert found(crashed(store)) == {key(1): b"small"}
    await again.close()


async def test_ending_a_run_forgets_its_results_and_units_but_what_is_kept(store: DiskStore, tmp_path: Path) -> None:
    for run in ("run1", "run2"):
        store.put(key(1, run), b"kept")
        store.put(key(2, run), b"gone")
        store.journal.result("default", run, result(1))
    await store.end_run("default", "run1", [key(1).unit])
    for each in (store, crashed(store)):
        assert set(found(each)) == {key(1), key(1, "run2"), key(2, "run2")}
        assert each.journal.results() == [("default", "run2", result(1))]


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "free", "result", "acked", "flush"]), st.integers(0, 5)),
    max_size=40,
)


class Model:
    """What the journal should have, and what it had at each flush."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.contents: dict[UnitKey, Content] = {}
        self.results: dict[tuple[bytes, int], Result] = {}
        self.flushed: list[tuple[dict[UnitKey, bytes], list[Result]]] = [({}, [])]

    def do(self, number: int, what: str, which: int) -> None:
        name = key(which, f"run{which % 2}")
        match what:
            case "put":
                self.free(name)
                data = b"%d " % number * (which + 1)
                content = self.contents[name] = Content(bytes_digest(data), len(data), data=data)
                self.journal.put(name, content, data)
            case "free":
                self.free(name)
            case "result":
                self.results.pop((name.unit, 1), None)
                self.results[name.unit, 1] = told = result(which)
                self.journal.result("default", name.run, told)
            case "acked":
                self.results.pop((name.unit, 1), None)
                self.journal.acked("default", name.run, [(name.unit, 1)])
            case "flush":
                self.journal.flush()
                self.journal.segments.drop()
                self.flushed.append(self.now())

    def free(self, name: UnitKey) -> None:
        if name in self.contents:
            self.journal.free(self.contents.pop(name))

    def now(self) -> tuple[dict[UnitKey, bytes], list[Result]]:
        return {name: self.journal.read(c) for name, c in self.contents.items()}, list(self.results.values())


def state(journal: Journal) -> tuple[dict[UnitKey, bytes], list[Result]]:
    return {name: journal.read(content) for name, content in journal.units()}, [told[2] for told in journal.results()]


@settings(max_examples=examples(8))
@given(STEPS)
def test_a_kill_at_any_byte_leaves_what_some_flush_left(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """And what is written after the restart is there at the next one."""
    place = tmp_path_factory.mktemp("journal")
    model = Model(Journal(place / "journal"))
    for number, (what, which) in enumerate([*steps, ("flush", 0)]):
        model.do(number, what, which)
    model.journal.close()
    (file,) = (place / "journal").iterdir()
    written = file.read_bytes()
    ends = 0
    for length in range(len(written) + 1):
        file.write_bytes(written[:length])
        cut = Journal(place / "journal")
        while state(cut) != model.flushed[ends]:
            ends += 1  # never back: a longer prefix is a later flush
            assert ends < len(model.flushed), f"cut at {length} of {len(written)} bytes"
        if length % 16 == 0:
            cut.put(key(77), Content(bytes_digest(b"after"), 5, data=b"after"), b"after")
        cut.close()
        if length % 16 == 0:
            again = Journal(place / "journal")
            assert dict(state(again)[0])[key(77)] == b"after"
            again.close()
    assert state_of(place, written, file) == model.flushed[-1]


def state_of(place: Path, written: bytes, file: Path) -> tuple[dict[UnitKey, bytes], list[Result]]:
    file.write_bytes(written)
    journal = Journal(place / "journal")
    try:
        return state(journal)
    finally:
        journal.close()


@settings(max_examples=examples(40))
@given(
    st.lists(st.tuples(st.sampled_from(["put", "put", "free", "result", "acked"]), st.integers(0, 40)), max_size=300)
)
def test_segments_go_at_the_head_only_so_nothing_freed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Tiny segments, so that they are written again, deleted and read from the file all the time."""
    place = tmp_path_factory.mktemp("journal")
    model = Model(Journal(place, segment=600, spare=1000, memory=300))
    for number, (what, which) in enumerate(steps):
        model.do(number, what, which)
        if number % 3 == 0:
            model.do(number, "flush", 0)
            assert state(model.journal) == model.now()
    model.do(len(steps), "flush", 0)
    live = sum(content.size for content in model.contents.values())
    assert model.journal.segments.file_bytes < 2 * (live + 160 * len(model.contents) + 400 * len(model.results)) + 8000
    model.journal.close()
    again = Journal(place, segment=600, spare=1000, memory=300)
    assert state(again) == model.flushed[-1]
    again.close()


def test_the_disk_holds_little_more_than_what_lives(tmp_path: Path) -> None:
    """A few units that stay for long among many that go at once, for a thousand segments."""
    journal = Journal(tmp_path, segment=10_000, spare=20_000)
    staying: list[Content] = []
    most = 0
    for number in range(5_000):
        data = bytes(400)
        content = Content(bytes_digest(data), 400, data=data)
        journal.put(key(number), content, data)
        if number % 500 == 0:
            staying.append(content)
        else:
            journal.free(content)
        if number % 10 == 0:
            journal.flush()
            journal.segments.drop()
            most = max(most, journal.segments.file_bytes - 2 * 480 * len(staying))
    assert most < 20_000 + 3 * 10_000
    for content in staying:
        journal.free(content)
    for _ in range(3):
        journal.result("n", "r", result(1))
        journal.flush()
    journal.segments.drop()
    assert journal.segments.file_bytes < 20_000 + 2 * 10_000
    journal.close()


def test_what_does_not_fit_into_memory_is_read_from_the_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment=1000, memory=2000)
    contents = []
    for number in range(50):
        data = b"%03d" % number * 100
        contents.append(Content(bytes_digest(data), len(data), data=data))
        journal.put(key(number), contents[-1], data)
        journal.flush()
    assert sum(content.size for content in contents if content.data is not None) <= 4000
    assert [journal.read(content)[:3] for content in contents] == [b"%03d" % number for number in range(50)]
    path = next(tmp_path.iterdir())
    first = contents[0].segment
    assert first is not None
    damaged = bytearray(first.path.read_bytes())
    damaged[contents[0].offset] ^= 1
    first.path.write_bytes(damaged)
    with pytest.raises(ContentChangedError, match="not what it was"):
        journal.read(contents[0])
    assert path.exists()
    journal.close()


def test_what_follows_a_damaged_frame_is_not_believed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment=200)
    for number in range(10):
        data = b"x" * 100
        journal.put(key(number), Content(bytes_digest(data), 100, data=data), data)
        journal.flush()
    journal.close()
    files = sorted(tmp_path.iterdir())
    second = bytearray(files[1].read_bytes())
    second[-1] ^= 1
    files[1].write_bytes(second)
    again = Journal(tmp_path, segment=200)
    assert 0 < len(list(again.units())) < 4
    again.close()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_loses_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.put(key(1), Content(bytes_digest(b"one"), 3, data=b"one"), b"one")
    journal.flush()
    journal.put(key(2), Content(bytes_digest(b"two"), 3, data=b"two"), b"two")
    real, calls = os.write, []

    def half(file: int, data: bytes) -> int:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(file, bytes(data)[:10])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        journal.flush()
    monkeypatch.setattr(os, "write", real)
    assert journal.segments.file_bytes == next(tmp_path.iterdir()).stat().st_size
    journal.flush()
    journal.close()
    again = Journal(tmp_path)
    assert {name for name, _ in again.units()} == {key(1), key(2)}
    again.close()


def test_a_journal_of_another_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{1:016x}.journal").write_bytes(b"bdw-fed journal 9\n and more")
    with pytest.raises(JournalError, match="start the release that wrote it"):
        Journal(tmp_path)


async def test_many_wait_for_one_sync(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    store.durability = "power"
    monkeypatch.setattr(os, "fdatasync", synced.append)
    monkeypatch.setattr(os, "fsync", synced.append)
    store.put(key(0), b"first")
    await store.durable()
    synced.clear()

    async def one(number: int) -> None:
        store.put(key(number), b"%d" % number)
        await store.durable()

    await asyncio.gather(*(one(number) for number in range(1, 20)))
    assert len(synced) <= 2
    synced.clear()
    await store.durable()
    assert synced == []


async def test_a_sync_that_failed_is_told_and_made_up_for(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    store.durability = "power"
    store.put(key(1), b"one")
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="Input/output"):
        await store.durable()
    synced: list[int] = []

    def sync(file: int) -> None:
        synced.append(file)
        real(file)

    monkeypatch.setattr(os, "fdatasync", sync)
    await store.durable()
    assert synced
