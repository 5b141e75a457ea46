"""Programs of `command` steps: how they are found, what they leave behind, and who ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Job, Outcome, Worker, WorkerSpec
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.link import SpawnerLink
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from tests.runtimes.test_process import DEADLINE, Said, job, until_gone

_ESCAPES = "setsid sh -c 'echo $$; exec sleep 1000' & wait"


@pytest.fixture
async def runtime() -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime()
    await made.open()
    yield made
    await made.close()


async def worker(runtime: ProcessRuntime, *argv: str, **options: object) -> Worker:
    return await runtime.start(WorkerSpec("s@1", argv=argv, **options))  # type: ignore[arg-type]


async def outcome(runtime: ProcessRuntime, made: Job, *argv: str, **options: object) -> Outcome:
    return await (await worker(runtime, *argv, **options)).execute(made, Said())


def descriptors(process: str | int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


async def test_a_program_is_looked_for_in_the_path_and_nowhere_else(runtime: ProcessRuntime, tmp_path: Path) -> None:
    made = job(tmp_path)
    own = made.directory / "own"
    own.write_text("#!/bin/sh\nexit 3\n")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "true").write_text("not to be executed")
    (folder / "plain").write_text("not to be executed")
    path = (("PATH", f"{folder}:{os.environ['PATH']}"),)
    assert (await outcome(runtime, made, "true", env=path)).kind == ""
    for program, why in (("own", "No such file"), ("plain", "Permission denied"), ("./own", "Permission denied")):
        found = await outcome(runtime, made, program, env=path)
        assert found.kind == "start"
        assert found.message.startswith(f"{program}: {why}")
    own.chmod(0o755)
    assert (await outcome(runtime, made, "./own")).message == "./own ended with exit code 3"
    assert (await outcome(runtime, made, "echo", "a\0b")).kind == "start"


async def test_a_directory_that_is_gone_fails_the_task_alone(runtime: ProcessRuntime, tmp_path: Path) -> None:
    gone = Job(tmp_path / "nowhere", {}, {})
    assert (await outcome(runtime, gone, "true")).kind == "start"
    assert (await outcome(runtime, job(tmp_path), "true")).kind == ""


async def test_what_a_program_may_use_is_limited(runtime: ProcessRuntime, tmp_path: Path) -> None:
    ends = await outcome(runtime, job(tmp_path), "sh", "-c", "head -c 100000 /dev/zero > file", disk=4096)
    assert ends.kind == "disk"
    assert (tmp_path / "task" / "file").stat().st_size == 4096
    assert (await outcome(runtime, job(tmp_path), "no-such-program", disk=4096)).kind == "start"


async def test_a_program_finds_signals_as_programs_expect_them(runtime: ProcessRuntime, tmp_path: Path) -> None:
    """A broken pipe ends it, and so does a request to end."""
    made = await worker(runtime, "sh", "-c", "yes | head -n 1; kill -TERM $$")
    said = Said()
    assert "SIGTERM" in (await made.execute(job(tmp_path), said)).message
    assert said.streams == {1: b"y\n", 2: b""}


async def test_what_a_task_has_left_writes_into_no_other_tasks_output(runtime: ProcessRuntime, tmp_path: Path) -> None:
    script = (
        "if [ $BDW_FED_TASK = first ]; then (setsid sh -c 'while :; do echo noise; done' &); fi; echo $BDW_FED_TASK"
    )
    made = await worker(runtime, "sh", "-c", script)
    first, second = Said(), Said()
    await made.execute(job(tmp_path, "first"), first)
    await made.execute(job(tmp_path, "second"), second)
    assert b"first\n" in first.streams[1]
    assert second.streams[1] == b"second\n"
    await made.stop()


async def test_workers_that_are_gone_have_left_no_descriptor_open(runtime: ProcessRuntime, tmp_path: Path) -> None:
    processes = ("self", runtime.spawner_pid)
    await (await worker(runtime, "true")).execute(job(tmp_path), Said())  # so that the spawner has all of its own
    before = [descriptors(process) for process in processes]
    for _ in range(3):
        made = await worker(runtime, "sh", "-c", "(setsid sleep 1000 &); echo hello")
        for _ in range(5):
            await made.execute(job(tmp_path), Said())
        await made.stop()
    async with asyncio.timeout(DEADLINE):  # the spawner hears of it a moment later
        while any(descriptors(process) > was for process, was in zip(processes, before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_killed_spawner_takes_programs_with_all_they_started(runtime: ProcessRuntime, tmp_path: Path) -> None:
    made = await worker(runtime, "sh", "-c", _ESCAPES)
    said = Said()
    running = asyncio.create_task(made.execute(job(tmp_path), said))
    [pid] = await said.line()
    os.kill(runtime.spawner_pid, signal.SIGKILL)
    assert (await running).kind == "lost"
    await until_gone(int(pid))
    assert not made.alive
    await made.stop()
    assert (await outcome(runtime, job(tmp_path), "true")).kind == ""


async def test_what_a_daemon_and_its_spawner_left_when_both_were_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    """Of the same owner, and of nobody else."""
    python = sys.executable
    pids = []
    links = [SpawnerLink(python, owner) for owner in ("ours", "others")]
    for link in links:
        await link.open()
        reader, writer = os.pipe()
        slot = link.slot({"PATH": os.environ["PATH"]}, [os.dup(writer), writer])
        slot.execute(["sh", "-c", _ESCAPES], {}, str(tmp_path), 0, 0)
        pids.append(int(await asyncio.to_thread(os.read, reader, 100)))
        os.close(reader)
    again = SpawnerLink(python, "ours")
    try:
        os.kill(links[0].pid, signal.SIGSTOP)  # it can't see to anything any more
        await again.open()
        await until_gone(pids[0])
        os.kill(pids[1], 0)
    finally:
        os.kill(links[0].pid, signal.SIGKILL)
        for link in (again, *links):
            await link.close()
    await until_gone(pids[1])


async def test_nothing_is_started_where_the_spawner_is_gone(tmp_path: Path) -> None:
    runtime = ProcessRuntime()
    await runtime.open()
    made = await worker(runtime, "true")
    await runtime.close()
    found = await made.execute(job(tmp_path), Said())
    assert (found.kind, found.message) == ("start", "the process that starts workers is gone")
    await made.stop()
    with pytest.raises(StartError):
        await SpawnerLink("/no/such/python").open()
