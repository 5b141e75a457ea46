"""What a program that watches a directory gets, and when its tasks are done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Job, Outcome, Watching, Worker, WorkerSpec
from cluster_agent.runtimes.directories.core import DirectoryCore, Done, Left, Look, LookAt, Seen, Unfinished
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from tests.runtimes.test_process import Said

SCRIPT = Path(__file__).with_name("watching.sh")
ONE = {"a": (1, 2, 3)}


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime(places=Places(tmp_path / "m", tmp_path / "d"))
    await made.open()
    yield made
    await made.close()


def spec(**options: object) -> WorkerSpec:
    watching = Watching(**{"poll": 0.01, "settle": 0.02, **options})  # type: ignore[arg-type]
    return WorkerSpec("watch@1", argv=("sh", str(SCRIPT)), watching=watching)


def job(tmp_path: Path, name: str, words: str, **options: object) -> Job:
    directory = tmp_path / name
    (directory / "out").mkdir(parents=True)
    given = directory / "rows.txt"
    given.write_text(f"{words}\n")
    given.chmod(0o444)
    env = {"BDW_FED_TASK": f"{name:0>40}", "BDW_FED_ATTEMPT": "1"}
    made = Job(directory, {"rows": given}, {"made": directory / "out" / "made.txt"}, {"level": 7, "name": "a b"}, env)
    return replace(made, **options)  # type: ignore[arg-type]


def made(tmp_path: Path, name: str) -> dict[str, str]:
    """The files of a task's output."""
    root = tmp_path / name / "out" / "made.txt"
    if not root.exists():
        return {}
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


async def outcome(worker: Worker, job: Job) -> Outcome:
    return await worker.execute(job, Said())


async def test_a_file_is_claimed_and_what_it_becomes_is_the_tasks_output(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    worker = await runtime.start(spec())
    assert (await outcome(worker, job(tmp_path, "1", "upper case"))).kind == ""
    assert (await outcome(worker, job(tmp_path, "2", "many files"))).kind == ""
    assert (await outcome(worker, job(tmp_path, "3", "nothing at all"))).kind == ""
    assert made(tmp_path, "1") == {"rows.txt": "UPPER CASE\n"}
    assert made(tmp_path, "2") == {
        "rows.txt.1": "1\n",
        "rows.txt.2": "2\n",
        "rows.txt.3": "3\n",
        "more/x": "x\n",
    }
    assert made(tmp_path, "3") == {}
    [argv] = [line.split(" ") for line in _sandbox(tmp_path, "argv").splitlines()]
    assert argv[0] == "0.01"
    assert [Path(word).name for word in argv[1:6]] == ["sandbox", "code", "in", "work", "out"]
    assert all(Path(word).is_absolute() for word in argv[1:6])
    assert argv[6:] == ["-", "-", ""]
    await worker.stop()
    assert not (tmp_path / "d").exists() or not list((tmp_path / "d").iterdir())


def _sandbox(tmp_path: Path, name: str) -> str:
    [found] = (tmp_path / "d").glob(f"*/sandbox/{name}")
    return found.read_text()


async def test_a_directory_is_claimed_whole_and_what_it_becomes_can_be_one(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    worker = await runtime.start(spec())
    task = job(tmp_path, "1", "")
    given = tmp_path / "1" / "rows"
    (given / "below").mkdir(parents=True)
    (given / "verb").write_text("takes all\n")
    (given / "below" / "run.sh").write_text("#!/bin/sh\necho run\n")
    (given / "below" / "run.sh").chmod(0o555)
    task = replace(task, inputs={"rows": given}, outputs={"made": tmp_path / "1" / "out" / "made"})
    assert (await outcome(worker, task)).kind == ""
    assert (tmp_path / "1" / "out" / "made" / "rows" / "told").read_text() == "run\n"
    assert (tmp_path / "1" / "out" / "made" / "rows" / "below" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (given / "verb").read_text() == "takes all\n", "what it has claimed is a copy"
    await worker.stop()


async def test_results_that_would_get_one_name_keep_both(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker = await runtime.start(spec())
    assert (await outcome(worker, job(tmp_path, "1", "twice"))).kind == ""
    assert made(tmp_path, "1") == {"rows.txt": "1\n", f"{'0' * 16}-rows.txt": "2\n"}
    await worker.stop()


async def test_a_program_is_started_again_only_for_other_arguments(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker = await runtime.start(spec(arguments=("--level={param.level}", "{param.name}")))
    for name, level in (("1", 7), ("2", 7), ("3", 8)):
        parameters = {"level": level, "name": "a b"}
        assert (await outcome(worker, job(tmp_path, name, "upper", parameters=parameters))).kind == ""
    lines = _sandbox(tmp_path, "argv").splitlines()
    assert [line.partition(" - - ")[2] for line in lines] == ["--level=7 a b", "--level=8 a b"]
    await worker.stop()


async def test_a_result_that_is_written_after_its_file_has_gone_is_waited_for(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    worker = await runtime.start(spec(settle=2.0))
    assert (await outcome(worker, job(tmp_path, "1", "late"))).kind == ""
    assert made(tmp_path, "1") == {"rows.txt": "late\n"}
    await worker.stop()


async def test_a_program_that_keeps_what_it_has_claimed_is_judged_by_what_it_writes(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    worker = await runtime.start(spec(written=True))
    for name in ("1", "2"):
        assert (await outcome(worker, job(tmp_path, name, f"keeps {name}"))).kind == ""
        assert made(tmp_path, name) == {"rows.txt": f"keeps {name}\n"}
    await worker.stop()


async def test_a_program_may_write_to_what_it_has_claimed(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker = await runtime.start(spec())
    assert (await outcome(worker, job(tmp_path, "1", "scribbles"))).kind == ""
    assert made(tmp_path, "1") == {"rows.txt": "scribbles\nscribbled\n"}
    assert (tmp_path / "1" / "rows.txt").read_text() == "scribbles\n"
    await worker.stop()


async def test_files_that_are_gathered_lie_there_together(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker = await runtime.start(spec())
    gathered = job(tmp_path, "1", "upper one")
    second = tmp_path / "1" / "other.txt"
    second.write_text("upper two\n")
    gathered = replace(gathered, inputs={"rows": [tmp_path / "1" / "rows.txt", second]})
    assert (await outcome(worker, gathered)).kind == ""
    assert made(tmp_path, "1") == {"rows.txt": "UPPER ONE\n", "other.txt": "UPPER TWO\n"}
    await worker.stop()


@pytest.mark.parametrize(
    ("words", "options", "kind", "message"),
    [
        ("fails", {}, "exit", "the program ended with exit code 3"),
        ("deserts", {}, "exit", "the program ended with exit code 0 with the task's file still in /work"),
        ("hangs", {"timeout": 0.1}, "timeout", "ended after its timeout of 0.1 s"),
    ],
)
async def test_a_task_that_is_not_done_fails_and_its_program_is_used_no_more(
    runtime: ProcessRuntime, tmp_path: Path, words: str, options: dict[str, float], kind: str, message: str
) -> None:
    worker = await runtime.start(spec())
    failed = await outcome(worker, job(tmp_path, "1", words, **options))
    assert (failed.kind, failed.message) == (kind, message)
    assert failed.detail == ("dying words\n" if words == "fails" else "")
    assert not worker.alive
    assert made(tmp_path, "1") == {}
    await worker.stop()


async def test_a_program_that_ends_well_with_its_task_done_has_done_it(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker = await runtime.start(spec(settle=1000.0))
    assert (await outcome(worker, job(tmp_path, "1", "leaves"))).kind == ""
    assert made(tmp_path, "1") == {"rows.txt": "leaves\n"}
    assert not worker.alive
    await worker.stop()


async def test_a_task_that_is_cancelled_is_dead_with_its_program(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, said = await runtime.start(spec()), Said()
    running = asyncio.create_task(worker.execute(job(tmp_path, "1", "hangs"), said))
    assert await said.line() == ["hanging"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not worker.alive
    children = Path(f"/proc/{runtime.spawner_pid}/task/{runtime.spawner_pid}/children")
    assert not children.read_text()
    await worker.stop()


async def test_what_can_not_be_started_says_so(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker = await runtime.start(replace(spec(), argv=("/nowhere/watch",)))
    failed = await outcome(worker, job(tmp_path, "1", "upper"))
    assert (failed.kind, failed.message) == ("start", "/nowhere/watch: No such file or directory")
    await worker.stop()
    with pytest.raises(StartError, match="this step has no bundle"):
        await runtime.start(replace(spec(), argv=("{bundle}/watch",)))


def test_a_task_is_done_when_its_file_is_gone_and_nothing_changes_any_more() -> None:
    core = DirectoryCore(0.1, 0.5, written=False)
    assert core.handle(Seen(Look(ONE, {}, {})), 0.0) == LookAt(0.1)
    assert core.handle(Seen(Look({}, ONE, {})), 0.1) == LookAt(0.2)
    assert core.handle(Seen(Look({}, {}, {})), 0.2) == LookAt(pytest.approx(0.3))
    assert core.handle(Seen(Look({}, {}, ONE)), 0.6) == LookAt(pytest.approx(0.7)), "it has changed"
    assert core.handle(Seen(Look({}, {}, ONE)), 1.0) == LookAt(pytest.approx(1.1))
    assert core.handle(Seen(Look({}, {}, {"a": (1, 9, 9)})), 1.05) == LookAt(pytest.approx(1.15)), "and again"
    assert core.handle(Seen(Look({}, {}, {"a": (1, 9, 9)})), 1.55) == Done()


def test_by_what_is_written_it_is_done_once_there_is_something_that_is_meant_to_stay() -> None:
    core = DirectoryCore(0.1, 0.1, written=True)
    for now, results in ((0.0, {}), (5.0, {}), (5.1, {".a": (1, 1, 1)}), (9.0, {".a": (1, 1, 1)})):
        assert core.handle(Seen(Look({}, ONE, results)), now) == LookAt(pytest.approx(now + 0.1))
    assert core.handle(Seen(Look({}, ONE, ONE)), 10.0) == LookAt(pytest.approx(10.1))
    assert core.handle(Seen(Look({}, ONE, ONE)), 10.1) == Done()


def test_a_program_that_has_ended_is_judged_by_what_it_has_left() -> None:
    core = DirectoryCore(0.1, 0.1, written=False)
    assert core.handle(Left(Look(ONE, {}, {})), 0.0) == Unfinished("with the task's file still in /in")
    assert core.handle(Left(Look({}, {}, ONE)), 0.0) == Done()
    core = DirectoryCore(0.1, 0.1, written=True)
    assert core.handle(Left(Look({}, ONE, {})), 0.0) == Unfinished("with nothing in /out")
    assert core.handle(Left(Look({}, ONE, ONE)), 0.0) == Done()
