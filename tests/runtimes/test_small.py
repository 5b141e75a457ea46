"""Small jobs, many given ahead: each has its own inputs, words, end and death, whatever its neighbours do."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Outcome, SmallEnd, SmallJob, SmallWork, Worker, WorkerSpec
from cluster_agent.runtimes.process.pipe import Shared
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.python import PythonWorker
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from tests.runtimes.test_process import DEADLINE, until_gone

CODE = """
import os, subprocess, sys, tempfile, threading, time
from pathlib import Path

def add_one(unit, out):
    out["unit"].write_bytes(b"%d" % (int(unit.read_bytes()) + 1))

def talk(unit, out):
    text = unit.read_text()
    if int(text) % 3 == 0:
        print("python", text)
        os.write(2, f"raw {text}\\n".encode())
    if int(text) % 5 == 0:
        subprocess.run(["echo", "child", text])
    if int(text) == 7:
        print("x" * 300_000)
    out["unit"].write_text(text)

def murmur(unit, out):
    print("mine", flush=True)
    threading.Timer(0.2, lambda: print("stray", flush=True)).start()
    out["unit"].write_text("x")

def die(unit, out):
    if unit.read_text() == "5":
        print("last words", file=sys.stderr)
        os.abort()
    out["unit"].write_text("fine")

def wait(unit, out):
    if unit.read_text() == "1":
        print("waiting", flush=True)
        while not os.path.exists("tmp/gate"):
            time.sleep(0.005)
    out["unit"].write_text("done")

def litter(unit, out):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    child = subprocess.Popen(["sleep", "1000"])
    for place in (Path("."), Path("tmp"), unit.parent, out["unit"].parent):
        assert not (place / "left").exists(), place
        (place / "left").mkdir()
        (place / "left" / "file").write_text("x")
    tempfile.mkstemp()
    os.environ["LEFT"] = "x"
    os.chdir("/")
    out["unit"].write_text(f"{child.pid} {unit} {os.environ['BDW_FED_TASK']}")

def look(unit, out):
    out["unit"].write_text(repr((sorted(os.listdir("tmp")), os.environ.get("LEFT"), os.getcwd() + "/tmp",
                                 os.environ["BDW_FED_ATTEMPT"])))

def odd(unit, out):
    what = unit.read_text()
    if what == "large":
        out["unit"].write_bytes(bytes(100_000))
    elif what == "many":
        out["unit"].mkdir()
        (out["unit"] / "a").write_text("a")
    elif what == "scribble":
        os.chmod(unit, 0o644)
        unit.write_text("SCRIBBLE")
    elif what == "raise":
        raise ValueError("no")
    elif what == "full":
        raise OSError(28, "No space left on device")
    elif what == "written":
        out["unit"].write_text("yes")
"""


class Task(SmallJob):
    """A small job that remembers what it wrote."""

    __slots__ = ("words",)

    def __init__(self, work: SmallWork, content: bytes, number: int = 0) -> None:
        super().__init__(work, f"{number:032x}", 1, [content])
        self.words = {1: b"", 2: b""}

    def write(self, stream: int, data: bytes) -> None:
        self.words[stream] += data


class Heard:
    """A listener that remembers, and lets a test wait."""

    def __init__(self) -> None:
        self.ends: list[SmallEnd] = []
        self.deaths: list[tuple[SmallJob | None, Outcome, Sequence[SmallJob]]] = []
        self._changed = asyncio.Event()

    def ended(self, worker: Worker, ends: Sequence[SmallEnd]) -> None:
        self.ends += ends
        self._changed.set()

    def died(self, worker: Worker, job: SmallJob | None, outcome: Outcome, others: Sequence[SmallJob]) -> None:
        self.deaths.append((job, outcome, others))
        self._changed.set()

    async def until(self, ends: int, deaths: int = 0) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.ends) < ends or len(self.deaths) < deaths:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime(places=Places(tmp_path / "memory", tmp_path / "disk"))
    await made.open()
    yield made
    await made.close()
    assert not (tmp_path / "memory").exists()


async def start(runtime: ProcessRuntime, tmp_path: Path, function: str) -> tuple[Worker, SmallWork]:
    (tmp_path / "steps.py").write_text(CODE)
    worker = await runtime.start(WorkerSpec("s@1", function=f"steps:{function}", bundle=tmp_path))
    return worker, SmallWork({"BDW_FED_STEP": "s"}, (("unit", "unit.csv"),), (("unit", "unit"),), {})


async def test_many_are_done_in_order_each_with_its_own_input(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, work = await start(runtime, tmp_path, "add_one")
    heard = Heard()
    jobs = [Task(work, b"%d" % number, number) for number in range(500)]
    for first in range(0, 500, 100):
        worker.give(jobs[first : first + 100], heard)
    await heard.until(500)
    assert [end.job for end in heard.ends] == jobs
    assert [end.outputs for end in heard.ends] == [[b"%d" % (number + 1)] for number in range(500)]
    assert all(end.peak_memory > 1 << 20 for end in heard.ends)
    await worker.stop()


async def test_what_each_writes_is_its_own(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """By Python, by the descriptor, by a child, more than a pipe holds; and of its neighbours some say nothing."""
    worker, work = await start(runtime, tmp_path, "talk")
    heard = Heard()
    jobs = [Task(work, b"%d" % number, number) for number in range(60)]
    worker.give(jobs, heard)
    await heard.until(60)
    for number, job in enumerate(jobs):
        expected = b"python %d\n" % number if number % 3 == 0 else b""
        expected += b"child %d\n" % number if number % 5 == 0 else b""
        expected += b"x" * 300_000 + b"\n" if number == 7 else b""
        assert sorted(job.words[1]) == sorted(expected), number
        assert job.words[2] == (b"raw %d\n" % number if number % 3 == 0 else b"")
    await worker.stop()


async def test_a_death_is_charged_to_the_job_that_the_worker_was_at(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, work = await start(runtime, tmp_path, "die")
    heard = Heard()
    jobs = [Task(work, b"%d" % number, number) for number in range(20)]
    worker.give(jobs, heard)
    await heard.until(0, 1)
    charged, outcome, others = heard.deaths[0]
    assert charged is jobs[5]
    assert outcome.kind == "exit"
    assert "SIGABRT" in outcome.message
    assert outcome.detail.startswith("last words")
    assert [*(end.job for end in heard.ends), *others] == [job for job in jobs if job is not charged]
    assert not worker.alive
    await worker.stop()


async def test_jobs_behind_one_that_takes_long_can_be_taken_back(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, work = await start(runtime, tmp_path, "wait")
    heard = Heard()
    jobs = [Task(work, b"%d" % number, number) for number in range(6)]
    worker.give(jobs, heard)
    async with asyncio.timeout(DEADLINE):
        while jobs[1].words[1] != b"waiting\n":  # noqa: ASYNC110 - the job tells nobody else
            await asyncio.sleep(0.01)
    assert worker.current() is jobs[1]
    assert worker.take_back() == jobs[2:]
    assert worker.take_back() == []
    worker.give([jobs[4]], heard)
    (tmp_path / "disk" / "1" / "gate").touch()
    await heard.until(3)
    assert [end.job for end in heard.ends] == [jobs[0], jobs[1], jobs[4]]
    await worker.stop()


async def test_what_a_job_leaves_is_gone_before_the_next(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """Files anywhere, processes, environment; and no path is used twice."""
    worker, work = await start(runtime, tmp_path, "litter")
    heard = Heard()
    worker.give([Task(work, b"1", number) for number in range(3)], heard)
    await heard.until(3)
    said = [end.outputs[0].decode().split() for end in heard.ends if end.outputs[0]]
    assert [end.failure for end in heard.ends] == [None] * 3
    for pid, _, _ in said:
        await until_gone(int(pid))
    assert len({path for _, path, _ in said}) == 3
    assert [task for _, _, task in said] == [f"{number:032x}" for number in range(3)]
    await worker.stop()
    assert not list((tmp_path / "memory").iterdir())
    assert not list((tmp_path / "disk").iterdir())


async def test_whatever_a_job_does_has_an_end(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, work = await start(runtime, tmp_path, "odd")
    heard = Heard()
    names = ["nothing", "large", "written", "scribble", "raise", "full", "many", "written"]
    for number, name in enumerate(names):
        worker.give([Task(work, name.encode(), number)], heard)
    await heard.until(2)
    large = heard.ends[1]
    assert heard.ends[0].outputs == [None]
    assert large.left is not None
    assert (large.left / "out" / "unit").stat().st_size == 100_000
    assert len(heard.ends) == 2, "the worker waits until what was left is taken"
    worker.go_on()
    await heard.until(7)
    assert heard.ends[2].outputs == [b"yes"]
    assert heard.ends[3].failure is not None
    assert heard.ends[3].failure.message == "the step wrote to its input unit; inputs may only be read"
    assert heard.ends[4].failure is not None
    assert (heard.ends[4].failure.kind, heard.ends[4].failure.message) == ("exception", "ValueError: no")
    assert heard.ends[5].again, "no space in memory is not the step's fault"
    assert heard.ends[6].left is not None
    worker.go_on()
    await heard.until(8)
    assert heard.ends[7].outputs == [b"yes"]
    await worker.stop()


async def test_a_worker_killed_from_outside_loses_one_job_at_most(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, work = await start(runtime, tmp_path, "add_one")
    heard = Heard()
    jobs = [Task(work, b"%d" % number, number) for number in range(5000)]
    worker.give(jobs, heard)
    await heard.until(1)
    os.kill(worker.pid, signal.SIGKILL)
    await heard.until(1, 1)
    charged, outcome, others = heard.deaths[0]
    assert outcome.kind == "lost"
    assert [end.job for end in heard.ends] == jobs[: len(heard.ends)]
    assert {charged, *others} == set(jobs[len(heard.ends) :])
    await worker.stop()


async def test_what_is_said_between_jobs_is_nobodys(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, work = await start(runtime, tmp_path, "murmur")
    heard = Heard()
    job = Task(work, b"1")
    worker.give([job], heard)
    await heard.until(1)
    await asyncio.sleep(0.4)  # the thread that the step has left speaks, if it is to be heard at all
    assert job.words[1] == b"mine\n"
    await worker.stop()


async def test_a_job_that_was_about_to_begin_is_not_taken_back_with_those_behind_it(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    worker, work = await start(runtime, tmp_path, "add_one")
    assert isinstance(worker, PythonWorker)
    heard = Heard()
    jobs = [Task(work, b"%d" % number, number) for number in range(5)]
    shared = worker._shared
    shared.halt()
    worker.give(jobs, heard)
    deadline = time.monotonic() + DEADLINE
    while shared.at == 0 and time.monotonic() < deadline:
        time.sleep(0.001)  # noqa: ASYNC251 - the event loop must not hear the worker yet
    assert worker.take_back() == jobs[1:]
    worker.give(jobs[3:], heard)
    await heard.until(3)
    assert [end.job for end in heard.ends] == [jobs[0], *jobs[3:]]
    await worker.stop()


def test_a_worker_that_is_gone_executes_nothing_whoever_asks() -> None:
    shared = Shared()
    shared.passed()
    shared.close()
    assert shared.at == 0
