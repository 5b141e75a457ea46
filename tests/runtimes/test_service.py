"""What a service owes its tasks, and what becomes of them when it does not: real processes, in both protocols."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Job, Outcome, Service, Worker, WorkerSpec
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from cluster_agent.runtimes.services import core
from tests.runtimes import serving
from tests.runtimes.test_process import DEADLINE, Said, until_gone

SCRIPT = str(Path(serving.__file__))


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime(places=Places(tmp_path / "m", tmp_path / "d"))
    await made.open()
    yield made
    await made.close()


def spec(*manner: str, **options: object) -> WorkerSpec:
    service = Service(**{"slots": 3, "health": 0.0, **options})  # type: ignore[arg-type]
    bare = () if service.protocol == "proto" else ("-I", "-S")
    return WorkerSpec("serve@1", argv=(sys.executable, *bare, SCRIPT, *manner), service=service)


def job(tmp_path: Path, name: str, words: str, **options: object) -> Job:
    directory = tmp_path / name
    (directory / "tmp").mkdir(parents=True)
    given = directory / "words.txt"
    given.write_text(words)
    env = {"BDW_FED_TASK": name, "BDW_FED_ATTEMPT": "1", "BDW_FED_RUN": "r", "TMPDIR": str(directory / "tmp")}
    made = Job(directory, {"words": given}, {"answer": directory / "answer.txt"}, {"level": 7}, env)
    return replace(made, **options)  # type: ignore[arg-type]


async def slots(runtime: ProcessRuntime, made: WorkerSpec, count: int) -> list[Worker]:
    return list(await asyncio.gather(*(runtime.start(made) for _ in range(count))))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is told to stop a task has as long as a busy machine takes."""
    monkeypatch.setattr(core, "GRACE_SECONDS", DEADLINE)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not listen anyway is not waited for."""
    monkeypatch.setattr(core, "GRACE_SECONDS", 0.05)


async def stop(*workers: Worker) -> None:
    await asyncio.gather(*(worker.stop() for worker in workers))


def answer(tmp_path: Path, name: str) -> dict[str, object]:
    told: dict[str, object] = json.loads((tmp_path / name / "answer.txt").read_text())
    return told


@pytest.mark.parametrize("protocol", ["json", "proto"])
async def test_several_tasks_are_with_one_process_at_a_time(
    runtime: ProcessRuntime, tmp_path: Path, protocol: str
) -> None:
    workers = await slots(runtime, spec(protocol=protocol), 3)
    go = tmp_path / "go"
    waiting = [
        asyncio.create_task(worker.execute(job(tmp_path, f"w{number}", f"wait {go}"), Said()))
        for number, worker in enumerate(workers[:2])
    ]
    told = await workers[2].execute(job(tmp_path, "c", "copy this"), Said())
    assert told.kind == ""
    found = answer(tmp_path, "c")
    assert found == {"words": "copy this", "parameters": {"level": 7}, "task": "c", "pid": found["pid"]}
    go.touch()
    assert [outcome.kind for outcome in await asyncio.gather(*waiting)] == ["", ""]
    pids = set()
    for number, worker in enumerate(workers):
        await worker.execute(job(tmp_path, f"p{number}", "copy"), Said())
        pids.add(answer(tmp_path, f"p{number}")["pid"])
    assert len(pids) == 1
    await stop(*workers)


async def test_a_process_has_as_many_slots_as_it_says_and_ends_with_the_last(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    workers = await slots(runtime, spec(slots=2), 3)
    pids = []
    for number, worker in enumerate(workers):
        await worker.execute(job(tmp_path, str(number), "copy"), Said())
        pids.append(answer(tmp_path, str(number))["pid"])
    assert pids[0] == pids[1] != pids[2]
    await workers[0].stop()
    assert workers[1].alive
    again = await runtime.start(spec(slots=2))
    await again.execute(job(tmp_path, "again", "copy"), Said())
    assert answer(tmp_path, "again")["pid"] in pids
    await stop(workers[1], workers[2], again)
    for pid in set(pids):
        await until_gone(int(str(pid)))


async def test_an_input_of_many_files_is_a_list(runtime: ProcessRuntime, tmp_path: Path) -> None:
    for protocol in ("json", "proto"):
        worker = await runtime.start(spec(protocol=protocol))
        made = job(tmp_path, protocol, "copy")
        second = tmp_path / protocol / "second.txt"
        second.write_text("both")
        many = replace(made, inputs={"words": [tmp_path / protocol / "words.txt", second]})
        assert (await worker.execute(many, Said())).kind == ""
        assert answer(tmp_path, protocol)["words"] == "copy both"
        await worker.stop()


async def test_what_is_said_goes_to_its_task_and_what_is_printed_to_all_that_are_under_way(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    first, second = await slots(runtime, spec(), 2)
    go = tmp_path / "go"
    beside, own = Said(), Said()
    waiting = asyncio.create_task(first.execute(job(tmp_path, "w", f"wait {go}"), beside))
    assert (await second.execute(job(tmp_path, "s", "say of mine"), own)).kind == ""
    assert own.streams[1] == b"of mine\n"
    assert (await second.execute(job(tmp_path, "p", "print of all"), own)).kind == ""
    assert await beside.line() == ["of", "all"]
    assert own.streams[1] == b"of mine\nof all\n"
    go.touch()
    await waiting
    await stop(first, second)


async def test_a_failure_is_the_tasks_in_its_own_words(runtime: ProcessRuntime, tmp_path: Path) -> None:
    worker = await runtime.start(spec())
    failed = await worker.execute(job(tmp_path, "1", "fail output no rows"), Said())
    assert (failed.kind, failed.message, failed.detail) == ("output", "no rows", "more of it")
    unknown = await worker.execute(job(tmp_path, "2", "fail lost not so"), Said())
    assert unknown.kind == "exception"
    assert unknown.message == "not so (its service calls that 'lost'; expected exception, output, memory, disk)"
    assert worker.alive
    assert (await worker.execute(job(tmp_path, "3", "copy"), Said())).kind == ""
    await worker.stop()


async def test_where_there_are_no_places_a_service_lives_in_a_temporary_directory(tmp_path: Path) -> None:
    runtime = ProcessRuntime()
    await runtime.open()
    worker = await runtime.start(spec())
    assert (await worker.execute(job(tmp_path, "c", "copy"), Said())).kind == ""
    await worker.stop()
    await runtime.close()


async def test_a_path_that_no_socket_can_have_is_told_in_words(tmp_path: Path) -> None:
    runtime = ProcessRuntime(places=Places(tmp_path / ("m" * 100), tmp_path / "d"))
    await runtime.open()
    with pytest.raises(StartError, match="more than 107 bytes: give the node daemon a shorter --directory"):
        await runtime.start(spec())
    assert not list((tmp_path / "d").iterdir())
    await runtime.close()


async def test_a_task_that_is_alone_when_its_service_dies_is_what_it_is_charged_to(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    worker = await runtime.start(spec())
    ended = await worker.execute(job(tmp_path, "d", "die"), Said())
    assert (ended.kind, ended.message) == ("exit", "the service ended with exit code 3")
    assert ended.detail == "dying words\n"
    assert not worker.alive
    assert worker.gone.is_set()
    await worker.stop()


async def test_of_several_tasks_none_is_charged_with_a_death_until_it_was_alone_with_it(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    first, second = await slots(runtime, spec(), 2)
    go = tmp_path / "go"
    innocent = asyncio.create_task(first.execute(job(tmp_path, "innocent", f"wait {go}"), Said()))
    guilty = await second.execute(job(tmp_path, "guilty", "die"), Said())
    assert [guilty.kind, (await innocent).kind] == ["lost", "lost"]
    expected = "the service ended with exit code 3, and 2 of its tasks with it; each is tried again by itself"
    assert guilty.message == expected
    await stop(first, second)

    first, second, third = await slots(runtime, spec(), 3)
    again = asyncio.create_task(first.execute(job(tmp_path / "2", "innocent", f"wait {go}"), Said()))
    beside = asyncio.create_task(third.execute(job(tmp_path / "2", "other", "copy"), Said()))
    alone = asyncio.create_task(second.execute(job(tmp_path / "2", "guilty", "die"), Said()))
    go.touch()
    assert [(await again).kind, (await beside).kind] == ["", ""]
    assert (await alone).kind == "exit", "now it is known"
    await stop(first, second, third)


async def test_a_task_whose_time_is_over_is_cancelled_and_no_other_suffers(
    runtime: ProcessRuntime, tmp_path: Path, patient: None
) -> None:
    first, second = await slots(runtime, spec(), 2)
    go = tmp_path / "go"
    other = asyncio.create_task(first.execute(job(tmp_path, "o", f"wait {go}"), Said()))
    late = await second.execute(job(tmp_path, "l", "listen", timeout=0.05), Said())
    assert (late.kind, late.message) == ("timeout", "ended after its timeout of 0.05 s")
    go.touch()
    assert (await other).kind == ""
    assert second.alive
    await stop(first, second)


async def test_a_task_that_does_not_stop_takes_its_service_with_it_and_is_alone_to_blame(
    runtime: ProcessRuntime, tmp_path: Path, hasty: None
) -> None:
    first, second = await slots(runtime, spec(), 2)
    other = asyncio.create_task(first.execute(job(tmp_path, "o", "listen"), Said()))
    late = await second.execute(job(tmp_path, "l", "hang", timeout=0.05), Said())
    assert late.kind == "timeout"
    lost = await other
    assert lost.kind == "lost"
    assert "another of its tasks" in lost.message
    await stop(first, second)


async def unwanted(runtime: ProcessRuntime, tmp_path: Path, words: str) -> bool:
    """Whether its service goes on when a task is cancelled."""
    first, second = await slots(runtime, spec(), 2)
    running = asyncio.create_task(first.execute(job(tmp_path, "unwanted", words), Said()))
    await second.execute(job(tmp_path, "beside", "copy"), Said())  # so the other has been told
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    alive = first.alive
    await stop(first, second)
    return alive


async def test_a_task_that_is_not_wanted_any_more_is_over_when_cancelling_returns(
    runtime: ProcessRuntime, tmp_path: Path, patient: None
) -> None:
    assert await unwanted(runtime, tmp_path, "listen")


async def test_one_that_does_not_listen_to_that_is_over_too(
    runtime: ProcessRuntime, tmp_path: Path, hasty: None
) -> None:
    assert not await unwanted(runtime, tmp_path, "hang")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("lie", 'it told the result of task "nobody\'s", which it was not given, or has told already'),
        ("babble", "which is no line of JSON"),
        ("deaf", "the service did not answer within 1 s when it was asked whether it is well"),
    ],
)
async def test_a_service_that_can_not_be_spoken_with_is_ended_and_says_why(
    runtime: ProcessRuntime, tmp_path: Path, words: str, why: str
) -> None:
    worker = await runtime.start(spec(health=1.0 if words == "deaf" else 0.0))
    ended = await worker.execute(job(tmp_path, "t", words), Said())
    assert ended.kind == "exit"
    assert why in ended.message
    await worker.stop()


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("late", "it was not ready within 0.2 s"),
        ("mute", "it was not ready within 0.2 s"),
        ("old", "the service can't be spoken with: it speaks version 2 of the conversation, and we version 1"),
    ],
)
async def test_a_service_that_does_not_come_up_says_why(runtime: ProcessRuntime, manner: str, why: str) -> None:
    with pytest.raises(StartError) as raised:
        await runtime.start(spec(manner, warm_up=DEADLINE if manner == "old" else 0.2))
    assert str(raised.value) == f"{sys.executable}: {why}"


async def test_a_service_that_ends_before_it_is_ready_says_so_to_all_who_wait(runtime: ProcessRuntime) -> None:
    ends = await asyncio.gather(*(runtime.start(spec("early")) for _ in range(3)), return_exceptions=True)
    for end in ends:
        assert isinstance(end, StartError)
        assert "ended with exit code 1 before it was ready" in str(end)
        assert end.detail == "there is no model\n"
    with pytest.raises(StartError, match="No such file"):
        await runtime.start(replace(spec(), argv=("/nowhere/serve",)))


async def test_a_start_that_nobody_waits_for_any_more_leaves_no_process(runtime: ProcessRuntime) -> None:
    starting = [asyncio.create_task(runtime.start(spec("late"))) for _ in range(2)]
    children = Path(f"/proc/{runtime.spawner_pid}/task/{runtime.spawner_pid}/children")
    async with asyncio.timeout(DEADLINE):
        while not children.read_text():  # noqa: ASYNC110 - of processes nobody tells
            await asyncio.sleep(0.005)
    for one in starting:
        one.cancel()
    await asyncio.gather(*starting, return_exceptions=True)
    assert not children.read_text()


async def test_a_service_that_is_killed_from_outside_is_lost_and_counted_for_nobody(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    worker = await runtime.start(spec())
    await worker.execute(job(tmp_path, "pid", "copy"), Said())
    pid = int(str(answer(tmp_path, "pid")["pid"]))
    running = asyncio.create_task(worker.execute(job(tmp_path, "t", "listen"), Said()))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    ended: Outcome = await running
    assert ended.kind == "lost"
    await worker.stop()
