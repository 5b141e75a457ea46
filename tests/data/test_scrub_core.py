"""A pass reads everything once, in the time that it has and no faster than it may, whatever the restarts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.scrub.core import FILE_BYTES, PIECE_BYTES, SLOWEST, ScrubCore
from cluster_agent.data.scrub.messages import (
    Event,
    File,
    FileEnded,
    Keep,
    List,
    Listed,
    PieceRead,
    Progress,
    Read,
    Tick,
    WakeAt,
)

WEEK = 7 * 86400.0
MOST = 8e6


@dataclass
class Disk:
    """Files by their place, read in no time by a scrubber on virtual time."""

    files: dict[bytes, int]
    period: float = WEEK
    most: float = MOST
    now: float = 1000.0
    kept: Progress = field(default_factory=Progress)
    read: list[bytes] = field(default_factory=list)  # places of files that were read to their end
    pieces: list[tuple[float, int]] = field(default_factory=list)
    damaged: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A daemon starts: it knows what was kept."""
        self.core = ScrubCore(self.period, self.most, self.kept, self.now)
        self.event: Event = Tick()
        self.listed: list[File] = []

    def step(self) -> bool:
        """One event and what follows; whether the pass is through."""
        actions = self.core.handle(self.event, self.now)
        self.event = Tick()
        through = False
        for action in actions:
            match action:
                case Keep(progress):
                    self.kept = progress
                    through = progress.through
                case List():
                    self.listed = sorted(File(place, size) for place, size in self.files.items())
                    self.event = Listed(self.listed)
                case Read(file, offset, size):
                    self.event = self._read(self.listed[file], offset, size)
                case WakeAt(at):
                    assert at > self.now
                    if not through:
                        self.now = at
        return through

    def _read(self, file: File, offset: int, size: int) -> Event:
        count = max(0, min(size, file.size - offset))
        self.pieces.append((self.now, count))
        if offset + count < file.size:
            return PieceRead(count)
        self.read.append(file.place)
        return FileEnded(count, damaged=file.place in self.damaged)

    def go(self) -> None:
        """To the end of the pass."""
        while not self.step():
            pass


def places(count: int) -> list[bytes]:
    return [bytes([1, number]) for number in range(count)]


def test_a_pass_reads_every_file_once_in_their_order() -> None:
    disk = Disk(dict.fromkeys(places(20), 3 * PIECE_BYTES + 7))
    disk.go()
    assert disk.read == places(20)
    assert sum(size for _, size in disk.pieces) == 20 * (3 * PIECE_BYTES + 7) == disk.kept.read
    assert disk.kept.through


def test_a_pass_takes_the_time_that_it_has() -> None:
    disk = Disk(dict.fromkeys(places(100), 200 * PIECE_BYTES), period=WEEK / 10)
    began = disk.now
    disk.go()
    assert disk.now - began == pytest.approx(WEEK / 10, rel=0.01)


def test_what_is_too_much_for_the_time_is_read_as_fast_as_it_may_and_no_faster() -> None:
    disk = Disk(dict.fromkeys(places(10), 200 * PIECE_BYTES), period=60.0)
    began = disk.now
    disk.go()
    total = 10 * (200 * PIECE_BYTES + FILE_BYTES)
    assert disk.now - began == pytest.approx(total / MOST, rel=0.01)


def test_a_small_store_is_through_early_and_the_next_pass_waits_for_its_time() -> None:
    disk = Disk({places(1)[0]: 10 * PIECE_BYTES})
    began = disk.now
    disk.go()
    assert disk.now - began <= (10 * PIECE_BYTES + FILE_BYTES) / (MOST / SLOWEST)
    assert disk.core.handle(Tick(), disk.now) == [WakeAt(began + WEEK)]
    assert disk.core.handle(Tick(), began + WEEK) == [List()]


def test_many_small_files_are_no_storm() -> None:
    """Each counts for what it costs to open it."""
    disk = Disk(dict.fromkeys(places(200), 1), period=1.0)
    began = disk.now
    disk.go()
    assert disk.now - began >= 199 * FILE_BYTES / MOST


def test_what_needs_no_look_takes_no_time() -> None:
    core = ScrubCore(WEEK, MOST, Progress(), 0.0)
    core.handle(Tick(), 0.0)
    assert core.handle(Listed([File(b"a", 1 << 30), File(b"b", 1 << 30)]), 0.0) == [Read(0, 0, PIECE_BYTES)]
    assert core.handle(FileEnded(), 0.0) == [Read(1, 0, PIECE_BYTES)]


def test_damage_is_counted_over_passes_and_kept_at_once() -> None:
    disk = Disk(dict.fromkeys(places(3), 1), damaged={places(3)[1]})
    while disk.event != FileEnded(1, damaged=True):
        disk.step()
    disk.step()
    assert (disk.kept.damaged, disk.kept.after) == (1, places(3)[1])
    disk.go()
    disk.now += WEEK
    disk.go()
    assert disk.kept.damaged == 2


def test_how_long_ago_the_last_pass_was_is_known_after_a_restart() -> None:
    disk = Disk(dict.fromkeys(places(3), 1))
    assert disk.core.progress(disk.now).last == -1.0
    disk.go()
    disk.now += 50.0
    assert disk.core.progress(disk.now).last == pytest.approx(50.0)
    again = ScrubCore(WEEK, MOST, disk.core.progress(disk.now), 7.0)
    assert again.progress(17.0).last == pytest.approx(60.0)


@given(
    st.dictionaries(st.binary(min_size=1, max_size=3), st.integers(0, 3 * PIECE_BYTES), max_size=12),
    st.lists(st.integers(0, 30), max_size=6),
)
def test_restarts_at_any_moments_leave_no_file_unread(files: dict[bytes, int], restarts: list[int]) -> None:
    """What was read since the last word that was kept is read again, and nothing is passed over."""
    disk = Disk(files, period=600.0)
    for steps in restarts:
        for _ in range(steps):
            if disk.step():
                break
        disk.start()
    if not disk.kept.through:
        disk.go()
    assert set(disk.read) == set(files)
