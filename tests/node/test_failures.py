"""Every way in which a step can fail is told by its kind, in words that help; and it costs nobody else anything."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bdw_fed.v1 import model_pb2
from cluster_agent.data.journal import Journal
from cluster_agent.orders.messages import Failure, UnitInfo
from tests.fixtures import words
from tests.node.cluster import Cluster, command, content, given, order, python, source, wait_until
from tests.node.steps import bundle
from wire.digests import unit_id

MIB = 1 << 20


async def failure_of(edge: Cluster, task: words.Task) -> Failure:
    edge.agent.start(task)
    result = await edge.agent.result(task.key)
    assert result.failure is not None
    assert not result.outputs
    return result.failure


@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        ("fail", "exception", "ValueError: no such airport: ‘XYZ’"),
        ("leave", "exit", "exit code 3"),
        ("die", "lost", "SIGKILL"),
        ("crash", "exit", "SIGABRT"),
        ("nothing", "output", "expected a file or directory out/rows.csv"),
    ],
)
async def test_a_python_step_that_fails(edge: Cluster, tmp_path: Path, function: str, kind: str, says: str) -> None:
    await edge.start()
    failure = await failure_of(
        edge, order(function, python(f"steps:{function}", bundle(edge, tmp_path)), outputs=["rows:csv"])
    )
    assert failure.kind == kind
    assert says in failure.message


@pytest.mark.parametrize(
    ("argv", "kind", "says"),
    [
        (["sh", "-c", "echo because >&2; exit 7"], "exit", "exit code 7"),
        (["sh", "-c", "kill -9 $$"], "lost", "SIGKILL"),
        (["sh", "-c", "kill -SEGV $$"], "exit", "SIGSEGV"),
        (["no-such-program"], "start", "no-such-program"),
        (["cat", "-{in.nothing}"], "start", "there is no input port 'nothing'"),
        (["cat", "{what}"], "start", "write {{ and }} for braces"),
        (["true"], "output", "rows"),
    ],
)
async def test_a_command_that_fails(edge: Cluster, argv: list[str], kind: str, says: str) -> None:
    await edge.start()
    failure = await failure_of(edge, order("cmd", command(*argv), outputs=["rows"]))
    assert failure.kind == kind
    assert says in failure.message
    if kind == "exit" and "7" in says:
        assert failure.detail == "because\n"


async def test_a_module_that_can_not_be_imported_is_a_failure_to_start_in_its_own_words(
    edge: Cluster, tmp_path: Path
) -> None:
    await edge.start()
    directory = tmp_path / "broken"
    directory.mkdir()
    (directory / "broken.py").write_text("import no_such_module\n")
    failure = await failure_of(edge, order("broken", python("broken:main", edge.agent.add_bundle(directory))))
    assert failure.kind == "start"
    assert "No module named 'no_such_module'" in failure.message
    assert 'broken.py", line 1' in failure.detail
    await edge.agent.hear("workers", lambda workers: "no_such_module" in workers.error and not workers.final)
    failure = await failure_of(edge, order("typo", python("typo:main", edge.agent.add_bundle(directory))))
    assert failure.kind == "start"
    await edge.agent.hear("workers", lambda workers: workers.step == "typo@1" and workers.final)


async def test_a_bundle_that_the_agent_does_not_have_is_a_failure_to_start(edge: Cluster) -> None:
    await edge.start()
    failure = await failure_of(edge, order("gone", python("gone:main", b"x" * 32)))
    assert failure.kind == "start"
    assert "no such bundle" in failure.message


async def test_a_timeout_ends_the_step_and_all_that_it_started(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! > {pids}; setsid sleep 1000 & echo $! >> {pids}; trap '' TERM; wait; wait"
    slow = order("slow", command("sh", "-c", script), timeout=0.5)
    spin = order("spin", python("steps:spin", bundle(edge, tmp_path)), timeout=0.5)
    edge.agent.start(slow)
    edge.agent.start(spin)
    for task in (slow, spin):
        failure = (await edge.agent.result(task.key)).failure
        assert (failure.kind, failure.message) == ("timeout", "ended after its timeout of 0.5 s")
    await wait_until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


async def test_memory_beyond_the_limit_is_told_as_that(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    limits = model_pb2.Resources(cpus=1, memory=256 * MIB)
    code = bundle(edge, tmp_path)
    failure = await failure_of(edge, order("greedy", python("steps:greedy", code), resources=limits))
    assert failure.kind == "memory"
    assert "256 MiB" in failure.message
    argv = ["python3", "-c", "x = bytearray(1 << 30)"]
    failure = await failure_of(edge, order("greedy2", command(*argv), resources=limits))
    assert failure.kind == "memory"
    within = order("fine", python("steps:nothing", code), resources=limits)
    edge.agent.start(within)
    assert (await edge.agent.result(within.key)).failure is None


@pytest.mark.parametrize("function", ["flood", "pieces"])
async def test_more_on_the_disk_than_allowed_is_told_as_that(edge: Cluster, tmp_path: Path, function: str) -> None:
    """In one file, which the kernel refuses, or in many."""
    node = await edge.start()
    limits = model_pb2.Resources(cpus=1, disk=20 * MIB)
    task = order(function, python(f"steps:{function}", bundle(edge, tmp_path)), resources=limits)
    failure = await failure_of(edge, task)
    assert failure.kind == "disk"
    assert "limit is 20 MiB" in failure.message
    await wait_until(lambda: not list((node.state / "tasks").glob("run1/*")))


async def test_a_command_that_writes_a_file_too_large_is_told_as_that(edge: Cluster) -> None:
    await edge.start()
    task = order(
        "dd",
        command("dd", "if=/dev/zero", "of={out.x}", "bs=1M", "count=30"),
        outputs=["x"],
        resources=model_pb2.Resources(cpus=1, disk=20 * MIB),
    )
    assert (await failure_of(edge, task)).kind == "disk"


async def test_an_output_that_finds_no_room_is_not_the_tasks_fault(edge: Cluster) -> None:
    node = await edge.start(disk=50_000)
    task = order("dd", command("dd", "if=/dev/zero", "of={out.x}", "bs=100k", "count=1"), outputs=["x"])
    failure = await failure_of(edge, task)
    assert failure.kind == "full"
    assert "the store may take 50000 more" in failure.message
    await wait_until(lambda: not list((node.state / "tasks").glob("run1/*")))


@pytest.mark.parametrize("size", ["10", "100k"], ids=["small", "large"])
async def test_what_a_task_has_made_is_gone_once_it_is_told_that_the_disk_did_not_take_it(
    edge: Cluster, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    """Nobody knows of it, so nobody would free it; the next attempt may be on another node."""
    node = await edge.start()
    flush, full = Journal.flush, True

    def none_left(self: Journal) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(self)

    monkeypatch.setattr(Journal, "flush", none_left)
    task = order("dd", command("dd", "if=/dev/zero", "of={out.x}", f"bs={size}", "count=1"), outputs=["x"])
    failure = await failure_of(edge, task)
    assert failure.kind == "full"
    assert "could not be synced" in failure.message
    full = False
    again = order("other", command("dd", "if=/dev/zero", "of={out.x}", f"bs={size}", "count=1"), outputs=["x"])
    edge.agent.start(again)
    (made,) = (await edge.agent.result(again.key)).outputs
    assert content(node, made.unit)
    made_before = unit_id(task.key.task, "x", 0)
    with pytest.raises(FileNotFoundError):
        content(node, UnitInfo(made_before, b"", 0))


async def test_a_program_that_says_that_the_disk_is_full_has_met_a_full_disk(edge: Cluster) -> None:
    await edge.start()
    task = order("says", command("sh", "-c", "echo 'sort: write failed: No space left on device' >&2; exit 2"))
    failure = await failure_of(edge, task)
    assert failure.kind == "full"
    assert "bytes of its node's disk were left" in failure.message


async def test_a_worker_killed_from_outside_is_lost_and_the_next_task_gets_another(
    edge: Cluster, tmp_path: Path
) -> None:
    node = await edge.start()
    code = bundle(edge, tmp_path)
    gate = tmp_path / "gate"
    task = order("wait", python("steps:wait", code), parameters={"gate": str(gate)}, outputs=["pid"])
    edge.agent.start(task)
    os.kill(await pid_in_log(edge, node.state), 9)
    assert (await edge.agent.result(task.key)).failure.kind == "lost"
    gate.touch()
    again = order("wait", python("steps:wait", code), parameters={"gate": str(gate)}, outputs=["pid"], attempt=2)
    edge.agent.start(again)
    result = await edge.agent.result(again.key)
    assert int(content(node, result.outputs[0].unit)) > 0


async def test_a_worker_killed_from_outside_takes_along_who_fled_from_it(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    task = order("escape", python("steps:escape", bundle(edge, tmp_path)))
    edge.agent.start(task)
    fled = await pid_in_log(edge, node.state)
    os.kill(int(Path(f"/proc/{fled}/stat").read_text().rpartition(")")[2].split()[1]), 9)
    assert (await edge.agent.result(task.key)).failure.kind == "lost"
    await wait_until(lambda: not alive(fled))


async def test_nothing_that_a_task_started_outlives_it(edge: Cluster, tmp_path: Path) -> None:
    """Children in the worker's session and out of it; the warm worker itself goes on."""
    node = await edge.start()
    code = bundle(edge, tmp_path)
    pids = []
    for attempt in (1, 2):
        task = order("litter", python("steps:litter", code), outputs=["pids"], attempt=attempt)
        edge.agent.start(task)
        result = await edge.agent.result(task.key)
        pids.append(int(content(node, result.outputs[0].unit)))
    assert not any(alive(pid) for pid in pids)
    await edge.agent.hear("workers", lambda workers: workers.start_seconds > 0)
    assert len([workers for workers in edge.agent.all("workers") if workers.start_seconds]) == 1


async def test_a_step_that_writes_to_its_input_fails(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    unit = await source(edge, "a.csv", b"theirs")
    task = order("scribble", python("steps:scribble", bundle(edge, tmp_path)), inputs=[given("rows", unit)])
    failure = await failure_of(edge, task)
    assert (failure.kind, failure.message) == ("output", "the step wrote to its input rows; inputs may only be read")


async def test_an_input_that_is_not_here_is_a_failure_of_the_data(edge: Cluster) -> None:
    await edge.start()
    unit = model_pb2.Unit(id=b"u" * 16, digest=b"d" * 32, size=1)
    failure = await failure_of(edge, order("cat", command("cat", "{in.rows}"), inputs=[given("rows", unit)]))
    assert failure.kind == "data"


async def pid_in_log(edge: Cluster, state: Path) -> int:
    """The process id that the step `wait` prints when it runs."""
    logs = state / "logs"

    def said() -> bytes:
        return b"".join(path.read_bytes() for path in logs.glob("*/*/*/*.log"))

    await wait_until(lambda: b"waiting" in said() and said().endswith(b"\n"))
    return int(said().split()[-1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
