"""The starter in a pod owes the node daemon what its own spawner does; it is asked by the very same workers.

The promises of `test_process` and `test_programs` are kept here by the real program, which is built with Go.
"""

# The tests that are imported are collected here too, with our `runtime` in place of theirs.
# ruff: noqa: F401, F811

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cluster_agent.runtimes.base import Job, Outcome, Runtime, Worker, WorkerSpec
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process import worker as worker_module
from cluster_agent.runtimes.process.command import CommandWorker
from cluster_agent.runtimes.process.link import SpawnerLink
from cluster_agent.runtimes.process.python import PythonWorker
from tests.runtimes.test_process import (
    DEADLINE,
    Said,
    bundle,
    gone,
    job,
    python,
    test_a_command_finds_its_own_surroundings_too,
    test_a_command_that_ends_leaves_no_child,
    test_a_module_that_ends_the_interpreter_is_a_failure_to_start,
    test_a_task_finds_its_own_surroundings_and_nothing_of_ours,
    test_a_very_long_command_line_arrives,
    test_a_worker_that_can_not_start_says_why,
    test_all_that_is_written_is_heard_before_the_outcome,
    test_an_idle_worker_that_dies_is_told,
    test_cancelling_kills_a_command_with_all_its_processes,
    test_cancelling_kills_a_task_with_all_its_processes,
    test_many_workers_start_at_once,
    test_stopping_a_worker_ends_its_process,
    test_whatever_a_function_does_has_an_outcome,
    until_gone,
)
from tests.runtimes.test_programs import (
    descriptors,
    test_a_directory_that_is_gone_fails_the_task_alone,
    test_a_program_finds_signals_as_programs_expect_them,
    test_what_a_program_may_use_is_limited,
    test_what_a_task_has_left_writes_into_no_other_tasks_output,
)

SOURCE = Path(__file__).parents[2] / "starter"
GO = shutil.which("go")

pytestmark = pytest.mark.skipif(
    GO is None, reason="NO GO ON PATH: the starter is not built, so NOTHING OF IT IS TESTED"
)


class Connected(SpawnerLink):
    """A link to a starter that is there already; `hello` is what it said first."""

    def __init__(self, path: Path) -> None:
        super().__init__("")
        self._path = path
        self.hello: dict[str, Any] = {}

    async def open(self) -> None:
        """Connect, and wait for the starter's turn to us."""
        self._loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            await self._loop.sock_connect(connection, str(self._path))
            async with asyncio.timeout(DEADLINE):
                (length,) = struct.unpack("<I", await self._exactly(connection, 4))
                self.hello = json.loads(await self._exactly(connection, length))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._loop.add_reader(connection, self._readable)

    async def _exactly(self, connection: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await self._loop.sock_recv(connection, count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _end_what_is_left(self) -> None:
        """Process ids are the pod's own: the starter, or the kernel at its end, sees to them."""


class Pod(Runtime):
    """A starter, as the process of a container, and workers by way of it."""

    def __init__(self, program: Path, directory: Path, env: dict[str, str], **options: Any) -> None:
        self.path = directory / "socket"
        self._program = program
        self._env = env
        self._options = options
        self.arguments: list[str] = ["--worker", str(Path(worker_module.__file__).parent)]

    async def open(self) -> None:
        self.process = subprocess.Popen(  # noqa: ASYNC220
            [self._program, *self.arguments, self.path], env=self._env, stderr=subprocess.PIPE, **self._options
        )
        await self.until_said(b"listening")
        self.link = await self.connect()

    async def until_said(self, words: bytes) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while words not in (line := await asyncio.to_thread(self.process.stderr.readline)):
                assert line, "the starter has ended"

    async def connect(self) -> Connected:
        link = Connected(self.path)
        await link.open()
        return link

    async def start(self, spec: WorkerSpec) -> Worker:
        # What the process runtime passes on of the daemon's environment is the image's here.
        env = {name: self.link.hello["env"][name] for name in ("PATH", "LANG") if name in self.link.hello["env"]}
        if spec.argv:
            return await CommandWorker.start(self.link, spec, env)
        return await PythonWorker.start(self.link, spec, env)

    async def close(self) -> None:
        if hasattr(self, "link"):
            await self.link.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        await asyncio.to_thread(self.process.communicate)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("starter") / "starter"
    subprocess.run(
        [str(GO), "build", "-trimpath", "-ldflags", "-s -w", "-o", made, "."],
        cwd=SOURCE,
        env={**os.environ, "CGO_ENABLED": "0"},
        check=True,
    )
    return made


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pod")


@pytest.fixture
def image_env() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LANG": "C.UTF-8", "OF_THE_IMAGE": "x"}


@pytest.fixture
async def runtime(program: Path, directory: Path, image_env: dict[str, str]) -> AsyncIterator[Pod]:
    made = Pod(program, directory, image_env)
    await made.open()
    yield made
    await made.close()


async def outcome(runtime: Pod, made: Job, *argv: str, **options: object) -> Outcome:
    worker = await runtime.start(WorkerSpec("s@1", argv=argv, **options))  # type: ignore[arg-type]
    try:
        return await worker.execute(made, Said())
    finally:
        await worker.stop()


async def test_a_daemon_is_told_what_the_image_has(runtime: Pod, image_env: dict[str, str]) -> None:
    hello = runtime.link.hello
    assert hello["hello"] == 1
    assert hello["pid"] == runtime.process.pid
    assert hello["uid"] == os.getuid()
    assert hello["env"] == image_env
    assert hello["python"][0] == f"{Path(sys.executable).parent}/python3"


async def test_an_image_without_python_says_so_and_runs_programs_all_the_same(
    program: Path, directory: Path, tmp_path: Path
) -> None:
    runtime = Pod(program, directory, {"PATH": "/nowhere"})
    await runtime.open()
    try:
        assert runtime.link.hello["python"] == []
        with pytest.raises(StartError, match=r"this image has no Python: .* PATH, /nowhere"):
            await runtime.start(WorkerSpec("s@1", function="steps:main"))
        assert (await outcome(runtime, job(tmp_path), "/bin/true")).kind == ""
    finally:
        await runtime.close()


@pytest.mark.parametrize("limits", [{}, {"disk": 4096}], ids=["free", "limited"])
async def test_a_program_that_can_not_be_executed_is_explained(
    runtime: Pod, tmp_path: Path, limits: dict[str, int]
) -> None:
    made = job(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "plain").write_text("not to be executed")
    (folder / "true").write_text("not to be executed")
    for name, content in (("loaderless", "#!/no/such/interpreter\n"), ("noise", "noise")):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    options = {"env": (("PATH", f"{folder}:{os.environ['PATH']}"),), **limits}
    assert (await outcome(runtime, made, "true", **options)).kind == ""
    for program, words in (
        ("nothing", "nothing: no such program in this image"),
        ("./nothing", "./nothing: no such program in this image"),
        ("plain", f"plain: {folder}/plain may not be executed by user {os.getuid()}"),
        ("loaderless", f"loaderless: {folder}/loaderless is there, but not the interpreter or loader that it names"),
        ("noise", f"noise: {folder}/noise is neither a program for "),
    ):
        found = await outcome(runtime, made, program, **options)
        assert found.kind == "start"
        assert found.message.startswith(words)
    assert "zero byte" in (await outcome(runtime, made, "echo", "a\0b", **limits)).message
    gone = Job(tmp_path / "nowhere", {}, {})
    assert "there is no directory" in (await outcome(runtime, gone, "true", **limits)).message


async def test_words_of_any_bytes_arrive_as_they_are(runtime: Pod, tmp_path: Path) -> None:
    words = ["plain", 'ä€😀\n"\\', os.fsdecode(b"\xff-\xc3(-\xe2\x82"), "\\udcff", ""]
    for limits in ({}, {"memory": 256 << 20}):
        worker = await runtime.start(WorkerSpec("s@1", argv=("printf", "%s|", "{in.parts}"), **limits))
        made = job(tmp_path)
        said = Said()
        paths = [Path(word) if word else Path("x") for word in words]
        await worker.execute(Job(made.directory, {"parts": paths}, {}, env=made.env), said)
        assert said.streams[1] == b"".join(os.fsencode(str(path)) + b"|" for path in paths)
        await worker.stop()


async def test_limits_hold_from_the_first_instruction_and_for_one_program_alone(runtime: Pod, tmp_path: Path) -> None:
    show = ("sh", "-c", "ulimit -v; ulimit -f; ulimit -c; ulimit -Sn; env | grep GOMAXPROCS")
    heard = []
    for options in ({"memory": 1 << 20, "disk": 1 << 20}, {}):
        worker = await runtime.start(WorkerSpec("s@1", argv=show, **options))
        said = Said()
        await worker.execute(job(tmp_path), said)
        heard.append(said.streams[1].decode().split())
        await worker.stop()
    files = str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    assert heard == [[str(65 << 10), "2048", "0", files], ["unlimited", "unlimited", "0", files]]


async def test_a_program_with_limits_may_have_very_many_words(runtime: Pod, tmp_path: Path) -> None:
    paths = [Path(f"/some/directory/with/a/long/name/{number:06}") for number in range(20_000)]
    worker = await runtime.start(WorkerSpec("s@1", argv=("sh", "-c", "echo $#", "-", "{in.parts}"), memory=64 << 20))
    said = Said()
    base = job(tmp_path)
    found = await worker.execute(Job(base.directory, {"parts": paths}, {}, env=base.env), said)
    assert found.kind == "", found
    assert await said.line() == ["20000"]
    await worker.stop()


async def test_files_may_be_as_many_as_the_container_was_given(
    program: Path, directory: Path, image_env: dict[str, str], tmp_path: Path
) -> None:
    """Go raises that limit for itself; a program that closes all it might have would take long for it."""

    def fewer() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    runtime = Pod(program, directory, image_env, preexec_fn=fewer)
    await runtime.open()
    try:
        for options in ({}, {"memory": 64 << 20}):
            worker = await runtime.start(WorkerSpec("s@1", argv=("sh", "-c", "ulimit -Sn"), **options))
            said = Said()
            await worker.execute(job(tmp_path), said)
            assert await said.line() == ["300"]
            await worker.stop()
    finally:
        await runtime.close()


async def test_what_a_task_has_left_is_ended_while_others_go_on(runtime: Pod, tmp_path: Path) -> None:
    escapes = await runtime.start(
        WorkerSpec("s@1", argv=("sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & wait"))
    )
    heard = Said()
    running = asyncio.create_task(escapes.execute(job(tmp_path, "one"), heard))
    [other] = await heard.line()
    leaves = await runtime.start(
        WorkerSpec("s@1", argv=("sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & exit 0"))
    )
    said = Said()
    for name in ("two", "three"):
        assert (await leaves.execute(job(tmp_path, name), said)).kind == ""
    for pid in said.streams[1].split():
        await until_gone(int(pid))
    assert not gone(int(other))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until_gone(int(other))


async def test_a_process_that_has_wiped_its_environment_goes_with_the_last_task(runtime: Pod, tmp_path: Path) -> None:
    script = (
        "env -i setsid sh -c 'echo $$ >out/pid; exec env -i sleep 1000' &"
        " until grep -q sleep /proc/$(cat out/pid)/comm; do sleep 0.01; done 2>/dev/null"
    )
    assert (await outcome(runtime, job(tmp_path), "sh", "-c", script)).kind == ""
    await until_gone(int((tmp_path / "task" / "out" / "pid").read_text()))


async def test_when_a_daemon_goes_so_does_all_that_it_started_and_the_next_is_served(
    runtime: Pod, bundle: Path, tmp_path: Path
) -> None:
    interpreter = await runtime.start(python("hang", bundle))
    command = await runtime.start(
        WorkerSpec("s@1", argv=("sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & wait"))
    )
    waiting = asyncio.create_task(runtime.connect())  # comes in when the first has left, and not before
    said = [Said(), Said()]
    tasks = [
        asyncio.create_task(worker.execute(job(tmp_path, str(number)), said[number]))
        for number, worker in enumerate((interpreter, command))
    ]
    pids = [int((await heard.line())[-1]) for heard in said]
    assert not waiting.done()
    before = runtime.link
    await before.close()
    runtime.link = await asyncio.wait_for(waiting, DEADLINE)
    assert all(gone(pid) for pid in (*pids, interpreter.pid)), "hello is said after their end"
    assert [found.kind for found in await asyncio.gather(*tasks)] == ["lost", "lost"]
    assert (await outcome(runtime, job(tmp_path), "true")).kind == ""
    for worker in (interpreter, command):
        await worker.stop()


async def test_a_log_that_nobody_reads_any_more_ends_nothing(runtime: Pod, tmp_path: Path) -> None:
    worker = await runtime.start(WorkerSpec("s@1", argv=("sh", "-c", "env -i setsid sleep 1000 & echo $!; wait")))
    said = Said()
    running = asyncio.create_task(worker.execute(job(tmp_path), said))
    [pid] = await said.line()
    assert runtime.process.stderr is not None
    runtime.process.stderr.close()
    await runtime.link.close()  # which is said in the log
    await running
    runtime.link = await runtime.connect()
    await until_gone(int(pid))
    assert (await outcome(runtime, job(tmp_path), "true")).kind == ""
    assert runtime.process.poll() is None
    runtime.process.stderr = open(os.devnull, "rb")  # noqa: SIM115, PTH123, ASYNC230 - for what closes it


async def test_the_end_of_the_pod_lets_programs_end_by_themselves_and_kills_what_does_not(
    program: Path, directory: Path, image_env: dict[str, str], tmp_path: Path
) -> None:
    runtime = Pod(program, directory, image_env)
    runtime.arguments += ["--grace", "300ms"]
    await runtime.open()
    scripts = (
        "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done",
        "trap '' TERM; echo up; sleep 1000",
    )
    said = [Said(), Said()]
    tasks = []
    for number, script in enumerate(scripts):
        worker = await runtime.start(WorkerSpec("s@1", argv=("sh", "-c", script)))
        tasks.append(asyncio.create_task(worker.execute(job(tmp_path, str(number)), said[number])))
        await said[number].line()
    runtime.process.send_signal(signal.SIGTERM)
    polite, stubborn = await asyncio.gather(*tasks)
    assert polite.message == "sh ended with exit code 5"
    assert said[0].streams[1] == b"up\nbye\n"
    assert stubborn.kind == "lost"
    await asyncio.wait_for(runtime.link.gone.wait(), DEADLINE)
    await runtime.close()
    assert runtime.process.returncode == 0
    assert not runtime.path.exists()


async def test_the_socket_is_for_our_own_user(runtime: Pod) -> None:
    assert runtime.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in runtime.path.parent.iterdir()] == ["socket"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try to be somebody else")
async def test_who_is_not_allowed_is_turned_away(program: Path, directory: Path, image_env: dict[str, str]) -> None:
    runtime = Pod(program, directory, image_env)
    runtime.arguments += ["--peers", "4321", "--group", "1234"]
    directory.chmod(0o755)
    await runtime.open()
    await runtime.link.close()
    assert runtime.path.stat().st_mode & 0o777 == 0o660
    assert runtime.path.stat().st_gid == 1234
    connects = (
        "import os, socket, sys\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgroups([1234]); os.setgid(1234); os.setuid(int(sys.argv[2]))\n"
        "one = socket.socket(socket.AF_UNIX); one.connect('socket')\n"
        "one.settimeout(20); sys.exit(0 if one.recv(1) else 3)"
    )
    try:
        for user, code in (("4321", 0), ("4322", 3)):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", connects, str(directory), user, stderr=asyncio.subprocess.PIPE
            )
            _, words = await child.communicate()
            assert child.returncode == code, words
    finally:
        await runtime.close()


async def test_a_socket_that_a_killed_container_left_is_replaced_and_one_in_use_is_not(
    runtime: Pod, program: Path
) -> None:
    second = subprocess.run([program, runtime.path], capture_output=True, text=True, timeout=DEADLINE, check=False)  # noqa: ASYNC221
    assert second.returncode == 2
    assert "somebody listens there already" in second.stderr
    await runtime.link.close()
    runtime.process.kill()
    await asyncio.to_thread(runtime.process.communicate)
    assert runtime.path.exists()
    await runtime.open()
    assert runtime.link.alive


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected one absolute path"),
        (["socket"], "expected one absolute path"),
        (["/tmp/" + "x" * 100], "may have at most 103 bytes, and this has 105"),
        (["--peers", "0,me", "/tmp/x"], '"me" is no user\'s number'),
        (["/etc/hostname"], "something else than a socket"),
        (["/no/such/directory/socket"], "no socket can be made there"),
    ],
)
def test_a_wrong_command_line_is_explained(program: Path, arguments: list[str], words: str) -> None:
    found = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert found.returncode == 2
    assert words in found.stderr


def test_help_names_all_that_can_be_told(program: Path) -> None:
    found = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert found.returncode == 0
    for word in ("SOCKET", "install", "-worker", "-python", "-peers", "-group", "-grace"):
        assert word in found.stderr


async def test_a_starter_has_no_descriptor_more_after_many_tasks(runtime: Pod, bundle: Path, tmp_path: Path) -> None:
    counts = []
    for times in (1, 5):
        for _ in range(times):
            for options in ({}, {"disk": 4096}):
                assert (await outcome(runtime, job(tmp_path), "true", **options)).kind == ""
            assert (await outcome(runtime, job(tmp_path), "nothing")).kind == "start"
            await (await runtime.start(python("report", bundle))).stop()
        await outcome(runtime, job(tmp_path), "true")  # so that the starter has heard of those slots' end
        counts.append(descriptors(runtime.process.pid))
    assert counts[1] <= counts[0] + 2  # of the last slot it may or may not have heard yet


async def test_what_is_no_order_ends_that_conversation_alone(runtime: Pod, tmp_path: Path) -> None:
    await runtime.link.close()
    for noise in (b"\xff\xff\xff\xff", b"\x02\0\0\0{{", b'\x0e\0\0\0{"argv":["a"]}'):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
            one.settimeout(DEADLINE)
            one.connect(str(runtime.path))
            one.sendall(noise)
            with contextlib.suppress(ConnectionResetError):
                while one.recv(4096):
                    pass
    runtime.link = await runtime.connect()
    assert (await outcome(runtime, job(tmp_path), "true")).kind == ""


def test_an_image_of_these_files_alone_can_install_them(program: Path, tmp_path: Path) -> None:
    shutil.copy(program, tmp_path / "starter")
    to = tmp_path / "to"
    to.mkdir()
    command = [tmp_path / "starter", "install", to]
    missing = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert missing.returncode == 2
    assert f"at {tmp_path}/worker" in missing.stderr
    worker = Path(worker_module.__file__).parent
    shutil.copytree(worker, tmp_path / "worker")
    subprocess.run(command, check=True, timeout=DEADLINE)
    assert sorted(path.name for path in to.iterdir()) == ["starter", "worker"]
    assert (to / "starter").stat().st_mode & 0o777 == 0o755
    modules = sorted(path.name for path in worker.glob("*.py"))
    assert sorted(path.name for path in (to / "worker").iterdir()) == modules
    for name in modules:
        assert (to / "worker" / name).read_bytes() == (worker / name).read_bytes()
