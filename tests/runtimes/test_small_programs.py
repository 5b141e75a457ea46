"""Small jobs of `command` steps: a program each, given ahead, that ends as it would with a directory of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster_agent.runtimes.base import Outcome, SmallWork, Worker, WorkerSpec
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from tests.runtimes.test_process import DEADLINE, Said, job, until_gone
from tests.runtimes.test_small import Heard, Task

_COPY = 'cat "$0" > "$1"; printf {param.more} >> "$1"'


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime(places=Places(tmp_path / "memory", tmp_path / "disk"))
    await made.open()
    yield made
    await made.close()
    assert not (tmp_path / "memory").exists()


async def start(
    runtime: ProcessRuntime, *argv: str, parameters: Mapping[str, Any] | None = None, **options: Any
) -> tuple[Worker, SmallWork]:
    worker = await runtime.start(WorkerSpec("s@1", argv=argv, **options))
    return worker, SmallWork({"BDW_FED_STEP": "s"}, (("unit", "unit.csv"),), (("unit", "unit"),), parameters or {})


async def failure_of(worker: Worker, work: SmallWork) -> Outcome:
    heard = Heard()
    worker.give([Task(work, b"1")], heard)
    await heard.until(1)
    failure = heard.ends[0].failure
    assert failure is not None
    return failure


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script, "{in.unit}", "{out.unit}")


async def test_many_are_done_in_order_each_with_its_own_input(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker, work = await start(runtime, *shell(_COPY), parameters={"more": "!"})
    other = SmallWork(work.env, work.inputs, work.outputs, {"more": "?"})
    heard = Heard()
    jobs = [Task(other if number % 2 else work, b"%d" % number, number) for number in range(60)]
    for first in range(0, 60, 20):
        worker.give(jobs[first : first + 20], heard)
    await heard.until(60)
    assert [end.job for end in heard.ends] == jobs
    assert [end.outputs for end in heard.ends] == [[b"%d%c" % (n, b"!?"[n % 2])] for n in range(60)]
    assert all(end.peak_memory > 0 for end in heard.ends)
    await worker.stop()
    assert not list((tmp_path / "memory").iterdir())


@pytest.mark.parametrize(
    "argv",
    [
        ("sh", "-c", "echo first; echo why not >&2; exit 3"),
        ("sh", "-c", "kill -SEGV $$"),
        ("sh", "-c", "kill -KILL $$"),
        ("no-such-program",),
        ("./no-such-file",),
        ("echo", "{param.nothing}"),
        ("echo", "a\0b"),
    ],
)
async def test_a_program_fails_as_it_does_with_a_directory_of_its_own(
    runtime: ProcessRuntime, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    worker, work = await start(runtime, *argv)
    small = await failure_of(worker, work)
    large = await worker.execute(job(tmp_path), Said())
    assert small.kind
    assert replace(small, seconds=0, peak_memory=0) == replace(large, seconds=0, peak_memory=0)
    assert worker.alive
    await worker.stop()


async def test_a_program_finds_its_own_surroundings(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """Those that it has with a directory of its own; what its step sets counts most."""
    script = "pwd; env; ls /proc/self/fd | tr '\\n' ' '"
    worker, work = await start(runtime, "sh", "-c", script, env=(("COLOUR", "blue"), ("HOME", "/nowhere")))
    heard = Heard()
    small = [Task(work, b"", number) for number in range(2)]
    worker.give(small, heard)
    await heard.until(2)
    for task in small:
        home, *lines, descriptors = task.words[1].decode().splitlines()
        assert home == str(tmp_path / "memory" / "1" / f"{task.task}.1")
        assert {"COLOUR=blue", "HOME=/nowhere", f"BDW_FED_TASK={task.task}", "BDW_FED_STEP=s"} <= set(lines)
        assert descriptors.split() == ["0", "1", "2", "3"], "3 is ls's own"
    said = Said()
    await worker.execute(job(tmp_path), said)
    names = {line.partition("=")[0] for line in said.streams[1].decode().splitlines() if "=" in line}
    assert {line.partition("=")[0] for line in lines} <= names | {"BDW_FED_STEP", "BDW_FED_ATTEMPT", "TMPDIR"}
    await worker.stop()


async def test_what_each_writes_is_its_own(runtime: ProcessRuntime) -> None:
    script = 'read n < "$0"; [ $((n % 3)) = 0 ] && echo out $n; [ $((n % 5)) = 0 ] && echo err $n >&2; [ $n != 9 ]'
    worker, work = await start(runtime, *shell(script))
    heard = Heard()
    jobs = [Task(work, b"%d\n" % number, number) for number in range(30)]
    worker.give(jobs, heard)
    await heard.until(30)
    for number, task in enumerate(jobs):
        assert task.words[1] == (b"out %d\n" % number if number % 3 == 0 else b"")
        assert task.words[2] == (b"err %d\n" % number if number % 5 == 0 else b"")
    assert [number for number, end in enumerate(heard.ends) if end.failure] == [9]
    await worker.stop()


async def test_what_a_program_leaves_is_gone_before_the_next(runtime: ProcessRuntime) -> None:
    script = 'ls in out tmp; sleep 1000 & (setsid sh -c "echo \\$\\$ > \\"$1\\"; exec sleep 1000" &); ' + (
        'while [ ! -s "$1" ]; do sleep 0.01; done; echo x > left; echo x > tmp/left'
    )
    worker, work = await start(runtime, *shell(script))
    heard = Heard()
    jobs = [Task(work, b"1", number) for number in range(3)]
    worker.give(jobs, heard)
    await heard.until(3)
    assert [end.failure for end in heard.ends] == [None] * 3
    for end in heard.ends:
        assert end.outputs[0]
        await until_gone(int(end.outputs[0]))
    assert {task.words[1] for task in jobs} == {b"in:\nunit.csv\n\nout:\n\ntmp:\n"}
    await worker.stop()


async def test_a_program_that_writes_to_its_input_has_failed(runtime: ProcessRuntime) -> None:
    worker, work = await start(runtime, *shell('chmod u+w "$0"; echo more >> "$0"'))
    failure = await failure_of(worker, work)
    assert (failure.kind, failure.message) == ("output", "the step wrote to its input unit; inputs may only be read")
    await worker.stop()


async def test_a_program_that_found_no_room_in_memory_is_to_be_executed_again(runtime: ProcessRuntime) -> None:
    worker, work = await start(runtime, "sh", "-c", "echo 'sh: No space left on device' >&2; exit 2")
    heard = Heard()
    worker.give([Task(work, b"1")], heard)
    await heard.until(1)
    assert heard.ends[0].again
    assert heard.ends[0].failure is None
    await worker.stop()


@pytest.mark.parametrize("victim", ["interpreter", "spawner"])
async def test_programs_end_with_whoever_started_them(runtime: ProcessRuntime, victim: str) -> None:
    """With all that they have started, wherever it fled to; one job is charged, the others were not executed."""
    worker, work = await start(runtime, "sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & wait")
    heard = Heard()
    jobs = [Task(work, b"", number) for number in range(3)]
    worker.give(jobs, heard)
    async with asyncio.timeout(DEADLINE):
        while not jobs[0].words[1].endswith(b"\n"):  # noqa: ASYNC110 - the job tells nobody else
            await asyncio.sleep(0.01)
    assert worker.current() is jobs[0]
    os.kill(worker.pid if victim == "interpreter" else runtime.spawner_pid, signal.SIGKILL)
    await heard.until(0, 1)
    charged, outcome, others = heard.deaths[0]
    assert charged is jobs[0]
    assert outcome.kind == "lost"
    assert others == jobs[1:]
    await until_gone(int(jobs[0].words[1]))
    assert not worker.alive
    await asyncio.wait_for(worker.gone.wait(), DEADLINE)
    await worker.stop()


async def test_jobs_behind_a_program_that_takes_long_can_be_taken_back(runtime: ProcessRuntime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker, work = await start(runtime, "sh", "-c", f"echo here; while [ ! -e {gate} ]; do sleep 0.01; done")
    heard = Heard()
    jobs = [Task(work, b"", number) for number in range(4)]
    worker.give(jobs, heard)
    async with asyncio.timeout(DEADLINE):
        while jobs[0].words[1] != b"here\n":  # noqa: ASYNC110 - the job tells nobody else
            await asyncio.sleep(0.01)
    assert worker.take_back() == jobs[1:]
    worker.give([jobs[2]], heard)
    gate.touch()
    await heard.until(2)
    assert [end.job for end in heard.ends] == [jobs[0], jobs[2]]
    await worker.stop()


async def test_a_program_that_hides_where_it_comes_from_ends_with_its_worker(runtime: ProcessRuntime) -> None:
    """Also while there are other workers, whose it might be."""
    other, _ = await start(runtime, "true")
    worker, work = await start(runtime, "env", "-i", "/bin/sh", "-c", "echo $$; sleep 1000 & wait")
    task = Task(work, b"")
    worker.give([task], Heard())
    async with asyncio.timeout(DEADLINE):
        while not task.words[1].endswith(b"\n"):  # noqa: ASYNC110 - the job tells nobody else
            await asyncio.sleep(0.01)
    await worker.stop()
    await until_gone(int(task.words[1]))
    await other.stop()


async def test_a_program_may_end_its_group(runtime: ProcessRuntime) -> None:
    worker, work = await start(runtime, "sh", "-c", "sleep 1000 & kill 0; wait")
    assert "SIGTERM" in (await failure_of(worker, work)).message
    assert worker.alive
    await worker.stop()
