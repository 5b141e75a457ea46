"""Rows: each job has the output of the one before, which is kept first; whatever ends a row, nothing behind it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import LeftRow, Row, SmallWork, Worker, WorkerSpec
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.python import PythonWorker
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from tests.runtimes.test_process import DEADLINE
from tests.runtimes.test_small import Heard, Task

CODE = """
import os, time

def step(unit, out, gate=""):
    number = int(unit.read_text())
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(f"{number} ")
    if number == 103:
        raise ValueError("three")
    if number == 203:
        return
    if number == 303:
        os.abort()
    if number == 403:
        print("waiting", flush=True)
        while not os.path.exists(gate):
            time.sleep(0.005)
    if number % 2:
        print("odd", number)
    out["side"].write_text("s")
    out["unit"].write_text(str(number + 1) if number != 503 else "x" * 50_000)
"""
PORTS = (("side", "side"), ("unit", "unit"))


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime(places=Places(tmp_path / "memory", tmp_path / "disk"), keeps=Keeps(tmp_path / "rows"))
    await made.open()
    yield made
    await made.close()
    assert not list((tmp_path / "rows").iterdir())


class Steps:
    """A worker, and what its step has seen."""

    def __init__(self, worker: Worker, work: SmallWork, tmp_path: Path) -> None:
        self.worker, self.work, self.heard = worker, work, Heard()
        self._seen = tmp_path / "seen"
        self._numbers = iter(range(1000))

    @property
    def seen(self) -> list[int]:
        return [int(number) for number in self._seen.read_text().split()]

    def row(self, first: int, length: int) -> list[Task]:
        """Give the worker a row."""
        row = self.jobs(first, length)
        self.worker.give(row, self.heard, Row(b"said", durable=False))
        return row

    def jobs(self, first: int, length: int) -> list[Task]:
        jobs = [Task(self.work, b"%d" % first, next(self._numbers))]
        for _ in range(length - 1):
            linked = Task(self.work, b"", next(self._numbers))
            linked.inputs, linked.link = [], 1
            jobs.append(linked)
        return jobs

    async def next_works(self) -> None:
        """A job that is given now is executed like any other."""
        ends = len(self.heard.ends)
        self.worker.give(self.jobs(1000, 1), self.heard)
        await self.heard.until(ends + 1)
        assert self.heard.ends[-1].outputs == [b"s", b"1001"]


@pytest.fixture
async def steps(runtime: ProcessRuntime, tmp_path: Path) -> Steps:
    (tmp_path / "rowsteps.py").write_text(CODE)
    (tmp_path / "seen").write_text("")
    spec = WorkerSpec("s@1", "rowsteps:step", bundle=tmp_path, env=(("SEEN", str(tmp_path / "seen")),))
    worker = await runtime.start(spec)
    assert worker.takes_rows
    work = SmallWork({}, (("unit", "unit"),), PORTS, {"gate": str(tmp_path / "gate")})
    return Steps(worker, work, tmp_path)


async def test_each_has_the_output_of_the_one_before_and_its_own_words(steps: Steps) -> None:
    row = steps.row(0, 40)
    await steps.heard.until(40)
    assert [end.job for end in steps.heard.ends] == row
    assert [end.outputs for end in steps.heard.ends] == [[b"s", b"%d" % (number + 1)] for number in range(40)]
    assert [job.words[1] for job in row] == [b"odd %d\n" % number if number % 2 else b"" for number in range(40)]


@pytest.mark.parametrize("first", [100, 200], ids=["fails", "makes nothing"])
async def test_nothing_is_executed_behind_one_that_has_not_made_its_input(steps: Steps, first: int) -> None:
    row = steps.row(first, 8)
    await steps.heard.until(4)
    assert [end.job for end in steps.heard.ends] == row[:4]
    assert bool(steps.heard.ends[3].failure) == (first == 100)
    await steps.next_works()
    assert steps.seen == [*range(first, first + 4), 1000]
    assert len(steps.heard.ends) == 5


async def test_a_large_output_ends_a_row_and_is_left(steps: Steps) -> None:
    steps.row(500, 8)
    await steps.heard.until(4)
    left = steps.heard.ends[3].left
    assert left is not None
    assert (left / "out" / "unit").stat().st_size == 50_000
    steps.worker.go_on()
    await steps.next_works()
    assert steps.seen == [*range(500, 504), 1000]


async def test_a_death_is_charged_to_the_one_that_was_begun_and_the_former_ones_are_heard(steps: Steps) -> None:
    row = steps.row(300, 8)
    await steps.heard.until(3, 1)
    assert [end.job for end in steps.heard.ends] == row[:3]
    [(charged, outcome, others)] = steps.heard.deaths
    assert charged is row[3]
    assert outcome.kind == "exit"
    assert others == row[4:]


async def test_what_was_not_begun_can_be_taken_back_and_what_ended_before_can_be_heard(
    steps: Steps, tmp_path: Path
) -> None:
    row = steps.row(400, 8)
    await said(row[3], b"waiting\n")
    steps.worker.hear()
    assert [end.job for end in steps.heard.ends] == row[:3]
    assert steps.worker.take_back() == row[4:]
    (tmp_path / "gate").touch()
    await steps.heard.until(4)
    await steps.next_works()
    assert steps.seen == [*range(400, 404), 1000]


async def test_where_an_answer_cannot_be_kept_the_next_does_not_begin(steps: Steps) -> None:
    """A full disk, say; here a file that would be too large."""
    assert isinstance(steps.worker, PythonWorker)
    row = steps.jobs(0, 4)
    keep = steps.worker._keep
    assert keep is not None
    begin = keep.begin
    keep.begin = lambda said, durable: (begin(said, durable)[0], 1 << 62)  # type: ignore[method-assign, assignment]
    steps.worker.give(row, steps.heard, Row(b"said", durable=False))
    await steps.heard.until(2)
    assert [(end.job, end.again) for end in steps.heard.ends] == [(row[0], False), (row[1], True)]
    assert steps.seen == [0]
    await steps.next_works()


@pytest.mark.parametrize("durable", [False, True])
async def test_a_later_daemon_finds_what_was_followed_and_no_row_before_it(
    steps: Steps, tmp_path: Path, durable: bool
) -> None:
    steps.worker.give(steps.jobs(0, 30), steps.heard, Row(b"an old row", durable))
    await steps.heard.until(30)
    row = steps.jobs(400, 8)
    steps.worker.give(row, steps.heard, Row(b"a row", durable))
    await said(row[3], b"waiting\n")
    assert left_in(tmp_path) == [(b"a row", [[b"s", b"401"], [b"s", b"402"], [b"s", b"403"]])]
    [file] = (tmp_path / "rows").iterdir()
    whole = file.read_bytes()
    cuts = [len(whole[: whole.index(b"403")]), 60, 3, 0]  # as a crash of the machine may leave it
    for cut, kept in zip(cuts, [2, 0, None, None], strict=True):
        torn = tmp_path / "torn"
        torn.mkdir(exist_ok=True)
        (torn / "1").write_bytes(whole[:cut])
        found = [len(each.ends) for each in Keeps(torn).left]
        assert found == ([] if kept is None else [kept]), cut
    (tmp_path / "gate").touch()
    await steps.heard.until(38)


def left_in(tmp_path: Path) -> list[tuple[bytes, list[list[bytes | None]]]]:
    rows: list[LeftRow] = Keeps(tmp_path / "rows").left
    return [(row.row, [list(outputs) for _, outputs in row.ends]) for row in rows]


async def said(job: Task, words: bytes) -> None:
    """A job has said something, which nobody else is told."""
    async with asyncio.timeout(DEADLINE):
        while words not in job.words[1]:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


def test_a_file_goes_from_worker_to_worker(tmp_path: Path) -> None:
    keeps = Keeps(tmp_path / "rows")
    first = keeps.take()
    keeps.give_back(first)
    assert keeps.take() is first
    keeps.give_back(first)
    keeps.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(first.descriptor)
