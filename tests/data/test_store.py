"""The store keeps each content once, exactly as long as a unit names it, and knows after a restart what it had."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.data.base import UnitKey, path_part, suffix
from cluster_agent.data.errors import BadNameError, ContentChangedError, NoSpaceError, NotAFileError, UnitMissingError
from cluster_agent.data.store import DiskStore
from wire.digests import bytes_digest


def key(number: int, run: str = "run1") -> UnitKey:
    return UnitKey("default", run, number.to_bytes(16, "big"))


def file_store(root: Path, capacity: int = 0) -> DiskStore:
    """One that keeps nothing in its journal, so that a few bytes may stand for a large file."""
    return DiskStore(root, capacity=capacity, small=-1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    made = file_store(tmp_path / "store")
    yield made
    await made.close()


def file(tmp_path: Path, content: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def contents(store: DiskStore) -> list[Path]:
    return sorted((store.root / "content").glob("*/*"))


async def test_a_file_is_taken_over_by_its_digest(store: DiskStore, tmp_path: Path) -> None:
    given = file(tmp_path, b"hello")
    inode = given.stat().st_ino
    content = await store.commit(given, key(1))
    assert content.digest == bytes_digest(b"hello")
    assert content.file.name == content.digest.hex()
    assert (content.file.stat().st_ino, content.file.stat().st_mode & 0o777) == (inode, 0o444)
    assert not given.exists()
    assert (store.root / "units" / "default" / "run1" / key(1).unit.hex()).read_bytes() == b"hello"


async def test_equal_bytes_are_kept_once_until_the_last_unit_goes(store: DiskStore, tmp_path: Path) -> None:
    await store.commit(file(tmp_path, b"same"), key(1))
    await store.commit(file(tmp_path, b"same"), key(2))
    assert (len(contents(store)), store.stored_bytes) == (1, 4)
    await store.free([key(1), key(1), key(9)])
    assert store.find(key(2)).size == 4
    await store.free([key(2)])
    assert (contents(store), store.stored_bytes, list(store.units())) == ([], 0, [])
    with pytest.raises(UnitMissingError):
        store.find(key(2))


async def test_more_units_than_a_file_can_have_links(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second copy serves the further units; after a restart too."""
    real, most = os.link, 3

    def link(source: Path, target: Path) -> None:
        if Path(source).stat().st_nlink >= most:
            raise OSError(31, "Too many links")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    for number in range(7):
        await store.commit(file(tmp_path, b"same"), key(number))
    assert all(store.find(key(number)).digest == bytes_digest(b"same") for number in range(7))
    again = file_store(store.root)
    assert all(again.find(key(number)).digest == bytes_digest(b"same") for number in range(7))
    await again.free([key(number) for number in range(7)])
    assert contents(again) == []
    assert again.stored_bytes == 0
    await again.close()


async def test_a_dataset_is_not_copied_and_never_removed(store: DiskStore, tmp_path: Path) -> None:
    given = file(tmp_path, b"precious")
    content = await store.reference(given, key(1))
    assert content.file.stat().st_ino == given.stat().st_ino
    assert store.stored_bytes == 0
    again = file_store(store.root)
    assert again.stored_bytes == 0
    await again.end_run("default", "run1", [])
    await again.close()
    assert given.read_bytes() == b"precious"
    assert given.stat().st_mode & 0o200


async def test_a_dataset_on_another_file_system_is_referred_to(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    given = file(tmp_path, b"far away")
    await store.reference(given, key(1))
    for each in (store, file_store(store.root)):
        each.link(key(1), tmp_path / f"input{id(each)}")
        assert (tmp_path / f"input{id(each)}").read_bytes() == b"far away"
    await store.free([key(1)])
    assert list((store.root / "units").rglob("*.ref")) == []


async def test_a_dataset_that_could_only_be_referred_to_is_had_in_the_store_once_for_who_sees_nothing_else(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = file(tmp_path, b"far away")
    links = os.link

    def link(source: Path, target: Path) -> None:
        if source == given:
            raise OSError(18, "Invalid cross-device link")
        links(source, target)

    monkeypatch.setattr(os, "link", link)
    for number in range(3):
        await store.reference(given, key(number))
    assert store.stored_bytes == 0
    await asyncio.gather(*(store.own(key(number)) for number in (0, 1, 0)))
    assert [path.read_bytes() for path in contents(store)] == [b"far away"]
    assert store.stored_bytes == len(b"far away")
    for number in (0, 1):
        store.link(key(number), tmp_path / f"input{number}")
        assert not (tmp_path / f"input{number}").is_symlink()
    store.link(key(2), tmp_path / "input2")
    assert (tmp_path / "input2").is_symlink()
    await store.free([key(0), key(1)])
    await store.own(key(2))
    assert given.read_bytes() == store.find(key(2)).file.read_bytes() == b"far away"
    assert list(store.partial.iterdir()) == []


async def test_a_dataset_that_is_freed_while_it_is_copied_is_not_there_again(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = file(tmp_path, b"far away")
    links, copies = os.link, shutil.copyfile
    loop = asyncio.get_running_loop()

    def link(source: Path, target: Path) -> None:
        if source == given:
            raise OSError(18, "Invalid cross-device link")
        links(source, target)

    def copy(source: Path, target: Path) -> None:
        copies(source, target)
        asyncio.run_coroutine_threadsafe(store.free([key(1)]), loop).result()

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(shutil, "copyfile", copy)
    await store.reference(given, key(1))
    with pytest.raises(UnitMissingError):
        await store.own(key(1))
    assert not store.holds(key(1))
    assert contents(store) == list(store.partial.iterdir()) == []
    assert store.stored_bytes == 0


async def test_a_dataset_that_changed_since_is_not_given_out(store: DiskStore, tmp_path: Path) -> None:
    given = file(tmp_path, b"before")
    await store.reference(given, key(1))
    given.write_bytes(b"afterwards")
    with pytest.raises(ContentChangedError):
        store.find(key(1))
    assert not store.name(key(2), bytes_digest(b"before"))
    content = await store.reference(given, key(1))
    assert content.digest == bytes_digest(b"afterwards")
    await store.commit(file(tmp_path, b"before", "other"), key(3))
    assert store.find(key(3)).file.read_bytes() == b"before"


async def test_damaged_content_is_replaced_when_it_comes_again(store: DiskStore, tmp_path: Path) -> None:
    """And the units that named it are gone, instead of other bytes than they stand for."""
    content = await store.commit(file(tmp_path, b"sound"), key(1))
    content.file.chmod(0o644)
    content.file.write_bytes(b"damaged")
    await store.commit(file(tmp_path, b"sound"), key(2))
    assert store.find(key(2)).file.read_bytes() == b"sound"
    with pytest.raises(UnitMissingError):
        store.find(key(1))


async def test_an_output_with_another_name_is_copied(store: DiskStore, tmp_path: Path) -> None:
    """Else whoever has that name could change what the digest stands for."""
    given = file(tmp_path, b"shared")
    other = tmp_path / "other"
    os.link(given, other)
    await store.commit(given, key(1))
    other.write_bytes(b"CHANGED")
    assert store.find(key(1)).file.read_bytes() == b"shared"


async def test_small_units_and_files_of_one_run_do_not_mind_each_other(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "mixed", small=10)
    store.put(key(1), b"small")
    await store.commit(file(tmp_path, b"larger than small"), key(2))
    await store.free([key(2)])
    await store.commit(file(tmp_path, b"and another file"), key(3))
    await store.free([key(3), key(1)])
    assert not list((store.root / "units").iterdir()), "nothing is left of the run"
    await store.close()


async def test_only_regular_files_become_units(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    for wrong in (tmp_path / "link", tmp_path):
        with pytest.raises(NotAFileError):
            await store.commit(wrong, key(1))


async def test_a_restart_finds_all_units_and_drops_what_nobody_names(store: DiskStore, tmp_path: Path) -> None:
    await store.commit(file(tmp_path, b"one"), key(1))
    await store.commit(file(tmp_path, b"two"), key(2, "run2"))
    content = await store.commit(file(tmp_path, b"three"), key(3))
    (store.root / "units" / "default" / "run1" / key(3).unit.hex()).unlink()
    unnamed = store.root / "units" / "default" / "run1" / key(4).unit.hex()
    unnamed.write_bytes(b"has lost its content")
    again = file_store(store.root)
    assert set(again.units()) == {key(1), key(2, "run2")}
    assert again.stored_bytes == 6
    assert not content.file.exists()
    assert not unnamed.exists()
    await again.close()


async def test_after_a_power_failure_content_is_believed_only_if_its_digest_is_right(
    store: DiskStore, tmp_path: Path
) -> None:
    sound = await store.commit(file(tmp_path, b"sound"), key(1))
    lost = await store.commit(file(tmp_path, b"never reached the disk"), key(2))
    os.truncate(lost.file, 0)
    (store.root / "boot").write_text("another life of the machine")
    (store.root / "content" / "stray").mkdir()
    (store.root / "content" / "stray" / "not-a-digest").touch()
    again = file_store(store.root)
    assert list(again.units()) == [key(1)]
    assert again.find(key(1)).digest == sound.digest
    assert not again.has(lost.digest)
    await again.close()


async def test_ending_a_run_keeps_what_is_named_and_other_runs(store: DiskStore, tmp_path: Path) -> None:
    for number in range(3):
        await store.commit(file(tmp_path, b"%d" % number), key(number))
    await store.commit(file(tmp_path, b"0"), key(0, "run2"))
    await store.end_run("default", "run1", [key(1).unit])
    assert set(store.units()) == {key(1), key(0, "run2")}


async def test_durable_means_synced_and_failures_are_told(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    store.durability = "power"
    monkeypatch.setattr(os, "fsync", synced.append)
    await store.commit(file(tmp_path, b"x"), key(1))
    await store.durable()
    assert len(synced) >= 3  # the content, its directory and the unit's
    await store.durable()
    before = len(synced)
    assert len(synced) == before

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    await store.commit(file(tmp_path, b"y"), key(2))
    with pytest.raises(OSError, match="Input/output"):
        await store.durable()
    monkeypatch.setattr(os, "fsync", synced.append)
    await store.durable()
    assert len(synced) >= before + 3


async def test_many_at_once_are_synced_as_one(store: DiskStore, tmp_path: Path) -> None:
    store.durability = "power"
    for number in range(50):
        await store.commit(file(tmp_path, b"%d" % number), key(number))
    await store.durable()


async def test_a_full_disk_is_told_before_bytes_cross(tmp_path: Path) -> None:
    store = file_store(tmp_path / "small", capacity=100)
    store.space.check(100)
    await store.commit(file(tmp_path, bytes(60)), key(1))
    with pytest.raises(NoSpaceError, match="41 bytes don't fit: 40"):
        store.space.check(41)
    await store.close()


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\0b", ".hidden", "a" * 300, "ä"])
def test_names_from_outside_do_not_become_paths(name: str) -> None:
    with pytest.raises(BadNameError):
        path_part(name)


def test_formats_become_suffixes_only_where_they_can() -> None:
    assert [suffix(name) for name in ("csv", "tar.gz", "", "../x", "a b")] == [".csv", ".tar.gz", "", "", ""]


async def test_a_look_at_a_unit_reads_its_bytes_and_damaged_ones_are_dropped(store: DiskStore, tmp_path: Path) -> None:
    content = await store.commit(file(tmp_path, b"hello"), key(1))
    await store.commit(file(tmp_path, b"hello"), key(2))
    assert await store.verify(key(1), content.digest)
    assert not await store.verify(key(1), bytes_digest(b"other bytes"))
    assert not await store.verify(key(3), content.digest)
    status = content.file.stat()
    content.file.chmod(0o644)
    content.file.write_bytes(b"jello")
    os.utime(content.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.find(key(1)), "a look at the file shows nothing"
    assert not await store.verify(key(1), content.digest)
    assert not list(store.units()), "no unit names damaged bytes"
    fresh = await store.commit(file(tmp_path, b"hello"), key(1))
    assert fresh.file.read_bytes() == b"hello"
