"""What every runtime owes the node daemon, shown on processes of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Job, Runtime, WorkerSpec, last_bytes
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from cluster_agent.runtimes.process.streams import LastWords

DEADLINE = 20.0

CODE = """
import asyncio, ctypes, os, resource, signal, subprocess, sys, tempfile, threading, time
from pathlib import Path

LOADED = time.time_ns()

def report(out, **given):
    tempfile.mkstemp()
    out["report"].write_text(repr({
        "cwd": os.getcwd(), "environ": dict(os.environ), "temp": tempfile.gettempdir(),
        "loaded": LOADED, "given": given,
        "core": resource.getrlimit(resource.RLIMIT_CORE), "group": os.getpgid(0) == os.getpid(),
        "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    }))

async def later(out):
    await asyncio.sleep(0)
    out["report"].write_text("done")

def hang(out):
    print("hanging", os.getpid(), flush=True)
    threading.Event().wait()

def escape(out):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("hanging", child.pid, flush=True)
    threading.Event().wait()

def escape_bare(out):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={})
    print("hanging", child.pid, flush=True)
    threading.Event().wait()

def fork_escape(out):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("hanging", os.getpid(), flush=True)
            threading.Event().wait()
        os._exit(0)
    os.wait()
    threading.Event().wait()

def raw(out):
    os.write(1, b"raw\\n")
    subprocess.run(["echo", "child"])
    ctypes.CDLL(None).puts(b"libc")
    ctypes.CDLL(None).fflush(None)
    print("python")

def fine(out):
    sys.exit(0)

def deep(out):
    def f(): f()
    f()

class Odd(Exception):
    def __str__(self):
        raise RuntimeError("even this fails")

def odd(out):
    raise Odd

def surrogate(out):
    print("\\udcff")
    raise ValueError("\\udcff")
"""


class Said:
    """A sink that remembers, and lets a test wait for words."""

    def __init__(self) -> None:
        self.streams = {1: b"", 2: b""}
        self._changed = asyncio.Event()

    def write(self, stream: int, data: bytes) -> None:
        self.streams[stream] += data
        self._changed.set()

    async def line(self) -> list[str]:
        """The words of the first line on standard output."""
        async with asyncio.timeout(DEADLINE):
            while b"\n" not in self.streams[1]:
                self._changed.clear()
                await self._changed.wait()
        return self.streams[1].decode().splitlines()[0].split()


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    made = ProcessRuntime()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "steps.py").write_text(CODE)
    return directory


def job(tmp_path: Path, name: str = "task", **options: object) -> Job:
    directory = tmp_path / name
    for part in ("in", "out", "tmp"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    env = {"HOME": f"{directory}/tmp", "TMPDIR": f"{directory}/tmp", "BDW_FED_TASK": name}
    return Job(directory, {}, {"report": directory / "out" / "report"}, env=env, **options)  # type: ignore[arg-type]


def python(function: str, bundle: Path, **options: object) -> WorkerSpec:
    return WorkerSpec("s@1", function=f"steps:{function}", bundle=bundle, **options)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while not gone(pid):  # noqa: ASYNC110 - nobody tells of a process that is not ours
            await asyncio.sleep(0.01)


async def test_a_task_finds_its_own_surroundings_and_nothing_of_ours(
    runtime: Runtime, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    worker = await runtime.start(python("report", bundle, env=(("COLOUR", "blue"),)))
    reports = []
    for name in ("one", "two"):
        made = job(tmp_path, name, parameters={"min-delay": 5})
        outcome = await worker.execute(made, Said())
        assert outcome.kind == "", outcome
        reports.append(eval(made.outputs["report"].read_text()))
    first, second = reports
    assert first["cwd"] == str(tmp_path / "one")
    assert first["temp"] == str(tmp_path / "one" / "tmp")
    assert second["temp"] == str(tmp_path / "two" / "tmp")
    assert first["given"] == {"min_delay": 5}
    assert first["environ"]["COLOUR"] == "blue"
    assert first["environ"]["BDW_FED_TASK"] == "one"
    assert not first["environ"].keys() - {
        "PATH",
        "LANG",
        "LC_ALL",
        "TZ",
        "HOME",
        "TMPDIR",
        "BDW_FED_TASK",
        "BDW_FED_WORKER",
        "COLOUR",
        "LC_CTYPE",
    }
    assert first["core"] == (0, 0)
    assert first["group"]
    assert set(first["fds"]) <= {0, 1, 2, 3, 4, 5, 6, 7}, "two of them the function's own"
    assert first["loaded"] == second["loaded"]
    await worker.stop()


async def test_a_command_finds_its_own_surroundings_too(runtime: Runtime, tmp_path: Path) -> None:
    argv = ("sh", "-c", "env; pwd; ls /proc/self/fd | tr '\\n' ' '")
    worker = await runtime.start(WorkerSpec("s@1", argv=argv, env=(("COLOUR", "blue"),)))
    said = Said()
    assert (await worker.execute(job(tmp_path), said)).kind == ""
    lines = said.streams[1].decode().splitlines()
    assert "COLOUR=blue" in lines
    assert f"HOME={tmp_path}/task/tmp" in lines
    assert str(tmp_path / "task") in lines
    assert lines[-1].split() == ["0", "1", "2", "3"], "3 is ls's own"


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        ("later", "", ""),
        ("fine", "", ""),
        ("deep", "exception", "RecursionError"),
        ("odd", "exception", "Odd"),
        ("surrogate", "exception", "ValueError: \\udcff"),
    ],
)
async def test_whatever_a_function_does_has_an_outcome(
    runtime: Runtime, bundle: Path, tmp_path: Path, function: str, kind: str, words: str
) -> None:
    worker = await runtime.start(python(function, bundle))
    outcome = await worker.execute(job(tmp_path), Said())
    assert outcome.kind == kind
    assert words in outcome.message
    assert len(outcome.detail.encode()) <= 4096
    assert worker.alive
    await worker.stop()


async def test_all_that_is_written_is_heard_before_the_outcome(runtime: Runtime, bundle: Path, tmp_path: Path) -> None:
    worker = await runtime.start(python("raw", bundle))
    said = Said()
    await worker.execute(job(tmp_path), said)
    assert sorted(said.streams[1].split()) == [b"child", b"libc", b"python", b"raw"]
    await worker.stop()


@pytest.mark.parametrize("function", ["hang", "escape", "escape_bare", "fork_escape"])
async def test_cancelling_kills_a_task_with_all_its_processes(
    runtime: Runtime, bundle: Path, tmp_path: Path, function: str
) -> None:
    worker = await runtime.start(python(function, bundle))
    said = Said()
    running = asyncio.create_task(worker.execute(job(tmp_path), said))
    _, pid = await said.line()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not worker.alive
    await until_gone(int(pid))
    await until_gone(worker.pid)


async def test_cancelling_kills_a_command_with_all_its_processes(runtime: Runtime, tmp_path: Path) -> None:
    argv = ("sh", "-c", "setsid sleep 1000 & echo $$ $!; sleep 1000")
    worker = await runtime.start(WorkerSpec("s@1", argv=argv))
    said = Said()
    running = asyncio.create_task(worker.execute(job(tmp_path), said))
    pids = await said.line()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for pid in pids:
        await until_gone(int(pid))


async def test_a_command_that_ends_leaves_no_child(runtime: Runtime, tmp_path: Path) -> None:
    worker = await runtime.start(
        WorkerSpec("s@1", argv=("sh", "-c", "sleep 1000 & setsid sleep 1000 & echo $! $(jobs -p)"))
    )
    said = Said()
    assert (await worker.execute(job(tmp_path), said)).kind == ""
    for pid in await said.line():
        await until_gone(int(pid))


async def test_an_idle_worker_that_dies_is_told(runtime: Runtime, bundle: Path) -> None:
    worker = await runtime.start(python("report", bundle))
    os.kill(worker.pid, signal.SIGKILL)
    await asyncio.wait_for(worker.gone.wait(), DEADLINE)
    assert not worker.alive
    await worker.stop()


async def test_stopping_a_worker_ends_its_process(runtime: Runtime, bundle: Path) -> None:
    worker = await runtime.start(python("report", bundle))
    await worker.stop()
    assert gone(worker.pid)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nobody:main", "there is no module nobody"),
        ("steps.none:main", "there is no module steps.none"),
        ("steps:nothing", "steps has no nothing"),
        ("steps:LOADED", "not a function"),
    ],
)
async def test_a_worker_that_can_not_start_says_why(runtime: Runtime, bundle: Path, function: str, words: str) -> None:
    with pytest.raises(StartError, match=words) as caught:
        await runtime.start(WorkerSpec("s@1", function=function, bundle=bundle))
    assert caught.value.final, "its definition names what is not there"


async def test_a_module_that_can_not_be_imported_may_be_at_another_time(runtime: Runtime, tmp_path: Path) -> None:
    """What it needs itself is not the definition's: a file that is written just now, a module that is installed."""
    (tmp_path / "needs.py").write_text("import what_nobody_has\n")
    with pytest.raises(StartError, match="No module named 'what_nobody_has'") as caught:
        await runtime.start(WorkerSpec("s@1", function="needs:main", bundle=tmp_path))
    assert not caught.value.final


async def test_a_module_that_ends_the_interpreter_is_a_failure_to_start(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(
        "import os\nprint('so long', file=__import__('sys').stderr, flush=True)\nos._exit(5)\n"
    )
    with pytest.raises(StartError, match="exit code 5") as caught:
        await runtime.start(WorkerSpec("s@1", function="ends:main", bundle=tmp_path))
    assert "so long" in caught.value.detail


async def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(StartError, match="/no/such/python"):
        await ProcessRuntime("/no/such/python").open()


async def test_many_workers_start_at_once(runtime: Runtime, bundle: Path, tmp_path: Path) -> None:
    workers = await asyncio.gather(*(runtime.start(python("report", bundle)) for _ in range(10)))
    outcomes = await asyncio.gather(
        *(worker.execute(job(tmp_path, str(number)), Said()) for number, worker in enumerate(workers))
    )
    assert {outcome.kind for outcome in outcomes} == {""}
    assert len({worker.pid for worker in workers}) == 10
    await asyncio.gather(*(worker.stop() for worker in workers))


async def test_a_very_long_command_line_arrives(runtime: Runtime, tmp_path: Path) -> None:
    """Longer than what a socket holds at once."""
    paths = [Path(f"/some/directory/with/a/long/name/{number:06}") for number in range(20_000)]
    worker = await runtime.start(WorkerSpec("s@1", argv=("sh", "-c", "echo $#", "-", "{in.parts}")))
    said = Said()
    base = job(tmp_path)
    outcome = await worker.execute(Job(base.directory, {"parts": paths}, {}, env=base.env), said)
    assert outcome.kind == "", outcome
    assert await said.line() == ["20000"]


def test_last_words_are_cut_between_characters() -> None:
    assert last_bytes("äöü", 3) == "ü"
    assert last_bytes("abc", 3) == "abc"
    words = LastWords(5)
    for piece in (b"ab", "ä".encode() * 3):
        words.write(2, piece)
    assert words.text(2) == "ää"


async def test_a_spawner_that_is_killed_while_a_worker_starts_is_no_fault_of_the_step(
    bundle: Path, tmp_path: Path
) -> None:
    waits = f"import os, time\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.01)\n"
    (bundle / "slow.py").write_text(f"{waits}def main(out): pass\n")
    runtime = ProcessRuntime()
    await runtime.open()
    starting = asyncio.create_task(runtime.start(WorkerSpec("s@1", function="slow:main", bundle=bundle)))
    spawner = runtime.spawner_pid
    async with asyncio.timeout(DEADLINE):
        while not Path(f"/proc/{spawner}/task/{spawner}/children").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    os.kill(spawner, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE):
        while runtime.spawner_pid == spawner:  # noqa: ASYNC110 - else the one that dies might start before it is dead
            await asyncio.sleep(0.01)
    (tmp_path / "go").touch()
    worker = await asyncio.wait_for(starting, DEADLINE)
    assert worker.alive
    assert runtime.spawner_pid != spawner
    await worker.stop()
    await runtime.close()
