"""Damaged content is found by the scrubber and by who reads it, forgotten and told of; all else stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cluster_agent.data import proving
from cluster_agent.data.base import Content, Damage, UnitKey
from cluster_agent.data.errors import UnitDamagedError, UnitMissingError
from cluster_agent.data.scrub.scrubber import Scrubber
from cluster_agent.data.store import DiskStore
from cluster_agent.data.tiers.memory import MemoryPlace, MemoryTier
from cluster_agent.data.tiers.moving import Places
from cluster_agent.orders.messages import Result
from tests.fixtures.rot import rot
from wire.digests import bytes_digest

LARGE = 50_000


def key(number: int) -> UnitKey:
    return UnitKey("default", "run1", number.to_bytes(16, "big"))


def data(number: int, size: int = LARGE) -> bytes:
    return bytes([number]) * size


class Stored:
    """A store with a few contents, all of which it has not looked at for long, and what it has said of damage."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proving, "PROVEN_SECONDS", -1.0)
        self.root = root
        self.open()

    def open(self) -> None:
        self.store = DiskStore(self.root / "store")
        self.damage: list[Damage] = []
        self.store.on_damage = self.damage.append

    async def put(self, number: int, size: int = LARGE) -> Content:
        path = self.root / "made"
        path.write_bytes(data(number, size))
        return await self.store.commit(path, key(number))

    def units(self) -> list[int]:
        return sorted(int.from_bytes(each.unit, "big") for each in self.store.units())

    def spill_journal(self) -> None:
        """What is in the journal has its bytes in its files alone from now on."""
        self.store.flush()
        for _, content in self.store.journal.units():
            content.data = None

    async def scrub(self, until: Callable[[Scrubber], bool] = lambda scrubber: scrubber.progress.through) -> Scrubber:
        """One pass, at once."""

        def changed() -> None:
            if until(scrubber):
                running.cancel()

        scrubber = Scrubber(self.store, 3600.0, 1e12, changed)
        running = asyncio.create_task(scrubber.run())
        async with asyncio.timeout(20):
            await asyncio.wait([running])
        assert running.cancelled()
        scrubber.close()
        return scrubber


@pytest.fixture
async def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stored]:
    made = Stored(tmp_path, monkeypatch)
    yield made
    await made.store.close()


# ------------------------------------------------------------------------------------------------- the scrubber


async def test_a_pass_over_what_is_sound_changes_nothing(stored: Stored) -> None:
    for number, size in ((1, LARGE), (2, 10), (3, 3 << 20)):
        await stored.put(number, size)
    stored.store.flush()
    scrubber = await stored.scrub()
    assert (stored.units(), stored.damage, scrubber.progress.damaged) == ([1, 2, 3], [], 0)
    assert scrubber.progress.read >= LARGE + (3 << 20)


@pytest.mark.parametrize("at", [0, LARGE // 2, LARGE - 1])
async def test_one_flipped_bit_is_found_and_told_with_all_units_that_had_it(stored: Stored, at: int) -> None:
    content = await stored.put(1)
    await stored.put(2)
    assert stored.store.name(key(3), content.digest)
    rot(content.file, at)
    scrubber = await stored.scrub()
    assert stored.units() == [2]
    (damage,) = stored.damage
    assert (damage.units, damage.digest, damage.size) == ((key(1), key(3)), bytes_digest(data(1)), LARGE)
    assert damage.why == "its bytes are not those of its digest"
    assert scrubber.progress.damaged == 1
    again = await stored.put(1)
    assert again.file.read_bytes() == data(1)


@pytest.mark.parametrize("harm", ["shorter", "gone", "unreadable"])
async def test_a_file_that_is_not_there_as_it_was_is_damage(
    stored: Stored, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = await stored.put(1, 3 << 20)
    if harm == "shorter":
        content.file.chmod(0o644)
        content.file.write_bytes(data(1))
    elif harm == "gone":
        content.file.unlink()
    else:
        rot(content.file)

        def fails(_: Path) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(proving, "digest_of", fails)
    await stored.scrub()
    assert (stored.units(), len(stored.damage)) == ([], 1)


async def test_a_file_of_a_dataset_is_its_owners(stored: Stored) -> None:
    dataset = stored.root / "flights.csv"
    dataset.write_bytes(data(1))
    await stored.store.reference(dataset, key(1))
    rot(dataset)
    await stored.scrub()
    assert (stored.units(), stored.damage) == ([1], [])


async def test_what_was_written_just_now_needs_no_look(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "PROVEN_SECONDS", 3600.0)
    await stored.put(1)
    assert (await stored.scrub()).progress.read < LARGE


async def test_a_pass_goes_on_where_the_last_daemon_was(stored: Stored) -> None:
    contents = sorted([await stored.put(number) for number in range(1, 6)], key=lambda content: content.digest)
    rot(contents[1].file)  # how far it is, is kept at once when something is found
    await stored.scrub(lambda scrubber: scrubber.progress.damaged == 1)
    await stored.store.close()
    stored.open()
    rot(stored.root / "store" / contents[0].file.relative_to(stored.store.root))  # behind it, for the next pass
    rot(stored.root / "store" / contents[4].file.relative_to(stored.store.root))
    scrubber = await stored.scrub()
    assert [damage.digest for damage in stored.damage] == [contents[4].digest]
    assert scrubber.progress.damaged == 2


async def test_memory_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "PROVEN_SECONDS", -1.0)
    (tmp_path / "memory").mkdir()
    made = Stored(tmp_path, monkeypatch)
    await made.store.close()
    made.store = DiskStore(tmp_path / "tiered", places=Places(MemoryPlace(tmp_path / "memory", 8 << 20)))
    made.store.on_damage = made.damage.append
    memory = made.store.memory
    assert memory is not None
    monkeypatch.setattr(MemoryTier, "tight", False)  # whatever else this machine is doing
    reserved = memory.reserve(LARGE, meant=True)
    assert reserved is not None
    (reserved.directory / "out").write_bytes(data(1))
    content = await made.store.commit(reserved.directory / "out", key(1))
    memory.release(reserved)
    assert content.shelf is memory.shelf
    rot(content.file)
    await made.scrub()
    assert [damage.units for damage in made.damage] == [(key(1),)]
    await made.store.close()


# --------------------------------------------------------------------------------------------------- the journal


def journal_files(stored: Stored) -> list[Path]:
    return sorted((stored.root / "store" / "journal").glob("*.journal"))


def spoil_journal(stored: Stored, number: int) -> None:
    """Harm the bytes of a small unit in the journal's file."""
    (file,) = journal_files(stored)
    rot(file, file.read_bytes().index(data(number, 100)))


async def test_damage_in_the_journal_is_made_good_from_memory(stored: Stored) -> None:
    for number in range(1, 6):
        await stored.put(number, 100)
        stored.store.flush()
    spoil_journal(stored, 2)
    scrubber = await stored.scrub()
    assert (stored.damage, scrubber.progress.damaged) == ([], 1)
    await stored.store.close()
    stored.open()
    assert stored.units() == [1, 2, 3, 4, 5], "the next daemon finds all, also what lay behind"
    assert stored.store.read(key(2)) == data(2, 100)


async def test_of_a_damaged_file_of_the_journal_only_what_is_damaged_is_lost(stored: Stored) -> None:
    for number in range(1, 6):
        await stored.put(number, 100)
        stored.store.flush()
    stored.spill_journal()
    spoil_journal(stored, 2)
    await stored.scrub()
    assert [damage.units for damage in stored.damage] == [(key(2),)]
    await stored.store.close()
    stored.open()
    assert stored.units() == [1, 3, 4, 5]


async def test_results_that_are_to_be_told_outlive_damage_before_them(stored: Stored) -> None:
    await stored.put(1, 100)
    stored.store.flush()
    stored.store.journal.result("default", "run1", Result(b"t" * 16, 1))
    stored.store.flush()
    spoil_journal(stored, 1)
    await stored.scrub()
    await stored.store.close()
    stored.open()
    assert [result.task for _, _, result in stored.store.journal.results()] == [b"t" * 16]


# ------------------------------------------------------------------------------------------------- who reads


async def test_what_has_lain_for_long_is_read_before_it_is_used(stored: Stored) -> None:
    content = await stored.put(1)
    await stored.store.assure([key(1)])
    rot(content.file)
    with pytest.raises(UnitDamagedError):
        await stored.store.assure([key(1)])
    assert (stored.units(), len(stored.damage)) == ([], 1)
    with pytest.raises(UnitMissingError):
        await stored.store.assure([key(1)])
    assert len(stored.damage) == 1, "it is told once"


async def test_what_was_proven_just_now_is_read_again_only_where_it_is_doubted(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "PROVEN_SECONDS", 3600.0)
    content = await stored.put(1)
    rot(content.file)
    await stored.store.assure([key(1)])
    with pytest.raises(UnitDamagedError):
        await stored.store.assure([key(1)], anew=True)


async def test_many_who_want_the_same_read_it_once(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    await stored.put(1)
    reads: list[Path] = []
    digest_of = proving.digest_of
    monkeypatch.setattr(proving, "digest_of", lambda path: reads.append(path) or digest_of(path))  # type: ignore[func-returns-value]
    monkeypatch.setattr(proving, "PROVEN_SECONDS", -1.0)
    await asyncio.gather(*(stored.store.proving.prove(stored.store.find(key(1))) for _ in range(10)))
    assert len(reads) == 1


async def test_a_small_unit_whose_bytes_are_damaged_is_forgotten_and_can_come_again(stored: Stored) -> None:
    await stored.put(1, 100)
    stored.spill_journal()
    spoil_journal(stored, 1)
    with pytest.raises(UnitDamagedError):
        stored.store.read(key(1))
    assert (stored.units(), [damage.units for damage in stored.damage]) == ([], [(key(1),)])
    stored.store.put(key(1), data(1, 100))
    assert stored.store.read(key(1)) == data(1, 100)


async def test_what_was_written_to_is_damage_and_not_a_fault_of_who_reads(stored: Stored) -> None:
    content = await stored.put(1)
    content.file.chmod(0o644)
    content.file.write_bytes(b"somebody has written to it")
    with pytest.raises(UnitDamagedError, match="was changed after its digest was made"):
        stored.store.find(key(1))
    assert (stored.units(), len(stored.damage)) == ([], 1)


@pytest.mark.parametrize("who", ["the scrubber", "somebody who doubts"])
async def test_what_can_not_be_read_for_another_reason_is_not_lost(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """No descriptor is free, say: a disk that is sound must not be emptied because of that."""
    content = await stored.put(1)
    rot(content.file)  # so that the scrubber has the store look itself

    def fails(_: Path) -> bytes:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(proving, "digest_of", fails)
    if who == "the scrubber":
        await stored.scrub()
    else:
        assert await stored.store.verify(key(1), content.digest)
    assert (stored.units(), stored.damage) == ([1], [])


async def test_a_further_name_is_not_given_to_damaged_small_content(stored: Stored) -> None:
    content = await stored.put(1, 100)
    stored.spill_journal()
    spoil_journal(stored, 1)
    assert not stored.store.name(key(2), content.digest)
    assert len(stored.damage) == 1
