"""The daemon's life: it goes on without its agent, comes back with what it has, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.node.service import StateInUseError, serve
from cluster_agent.runtimes.process.places import SHARED_MEMORY
from tests.fixtures import words
from tests.node.cluster import (
    NAMESPACE,
    Cluster,
    command,
    content,
    given,
    order,
    python,
    source,
    splitter,
    unit_key,
    wait_until,
)
from tests.node.steps import bundle
from tests.node.test_failures import alive, pid_in_log

DAEMON = """
import asyncio, pathlib, sys
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.service import serve
from wire.identity import Credentials
config = NodeConfig("edge1", "n1", pathlib.Path(sys.argv[1]), sys.argv[2], Credentials.load(pathlib.Path(sys.argv[3])),
                    "127.0.0.1:0", cpus=4)
asyncio.run(serve(config, print, asyncio.Event()))
"""


async def test_a_worker_is_started_once_and_kept_for_the_next_task(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    code = bundle(edge, tmp_path)
    pids = set()
    for number in range(5):
        task = order("pid", python("steps:pid", code), outputs=["pid"], number=number)
        edge.agent.start(task)
        pids.add(content(node, (await edge.agent.result(task.key)).outputs[0].unit))
    assert len(pids) == 1
    assert edge.agent.bundle_requests == 1


async def test_a_pool_is_warm_before_its_first_task_and_stopped_when_told(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    execution = python("steps:pid", bundle(edge, tmp_path))
    size = node_pb2.SizePool(definition="pid@1", workers=3, execution=execution, resources=model_pb2.Resources(cpus=1))
    edge.agent.say(pool=size)
    await edge.agent.hear("workers", lambda workers: (workers.idle, workers.starting) == (3, 0))
    task = order("pid", execution, outputs=["pid"])
    edge.agent.start(task)
    await edge.agent.result(task.key)
    assert edge.agent.results[0].starting < 0.001
    size.workers = 0
    edge.agent.say(pool=size)
    await edge.agent.hear("workers", lambda workers: (workers.idle, workers.starting, workers.busy) == (0, 0, 0))


async def test_no_more_tasks_run_at_once_than_there_are_processors(edge: Cluster, tmp_path: Path) -> None:
    await edge.start(cpus=2.0)
    gate = tmp_path / "gate"
    tasks = [
        order("wait", command("sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.01; done"), number=n) for n in range(3)
    ]
    for task in tasks:
        edge.agent.start(task)
    await edge.agent.hear("started", lambda started: started.key == tasks[1].key)
    assert len(edge.agent.all("started")) == 2
    gate.touch()
    for task in tasks:
        await edge.agent.result(task.key)


async def test_a_task_told_twice_runs_once_and_its_result_is_told_until_it_is_acknowledged(
    edge: Cluster, tmp_path: Path
) -> None:
    await edge.start()
    edge.agent.acknowledges = False
    count = tmp_path / "count"
    task = order("once", command("sh", "-c", f"echo x >> {count}"))
    edge.agent.start(task)
    edge.agent.start(task)
    await edge.agent.result(task.key)
    edge.agent.start(task)
    await edge.agent.hear("finished", lambda finished: finished.key == task.key, after=1)
    edge.agent.hang_up()
    hello = await edge.agent.hear("hello", after=1)
    assert edge.agent.repeated[-1] == [task.key]
    assert list(hello.running) == [task.key]
    edge.agent.order(words.acks([task.key]))
    edge.agent.hang_up()
    await edge.agent.hear("hello", after=2)
    assert edge.agent.repeated[-1] == []
    assert count.read_text() == "x\n"


async def test_a_running_task_survives_the_agents_absence(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    gate = tmp_path / "gate"
    waits = python("steps:wait", bundle(edge, tmp_path))
    task = order("wait", waits, parameters={"gate": str(gate)}, outputs=["pid"])
    queued = order("late", command("true"), resources=model_pb2.Resources(cpus=2))
    edge.agent.start(task)
    pid = await pid_in_log(edge, node.state)
    edge.agent.start(queued)
    edge.agent.say(pool=node_pb2.SizePool(definition="x@1", execution=command("true")))
    await edge.agent.hear("started", lambda started: started.key == task.key)
    edge.agent.hang_up()
    hello = await edge.agent.hear("hello", after=1)
    assert sorted(key.task for key in hello.running) == sorted([task.key.task, queued.key.task])
    await edge.agent.hear("started", lambda started: started.key == task.key, after=1)
    gate.touch()
    result = await edge.agent.result(task.key)
    assert int(content(node, result.outputs[0].unit)) == pid
    assert (await edge.agent.result(queued.key)).failure is None


async def test_a_cancelled_task_is_killed_and_nothing_is_told_of_it(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    task = order("wait", python("steps:wait", bundle(edge, tmp_path)), parameters={"gate": str(tmp_path / "no")})
    edge.agent.start(task)
    pid = await pid_in_log(edge, node.state)
    edge.agent.say(cancel=node_pb2.CancelTask(key=task.key))
    after = order("after", command("true"))
    edge.agent.start(after)
    await edge.agent.result(after.key)
    await wait_until(lambda: not alive(pid))
    assert [finished.key for finished in edge.agent.all("finished")] == [after.key]
    await wait_until(lambda: not list((node.state / "tasks").glob("run1/*")))


async def test_freed_units_and_ended_runs_leave_the_disk(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    unit = await source(edge, "a.csv", b"some rows")
    kept = order("keep", command("sh", "-c", "echo kept > {out.x}"), outputs=["x"])
    gone = order("gone", command("sh", "-c", "echo gone > {out.x}"), outputs=["x"])
    stuck = order("stuck", command("sleep", "1000"))
    units = []
    for task in (kept, gone):
        edge.agent.start(task)
        units.append((await edge.agent.result(task.key)).outputs[0].unit)
    edge.agent.start(stuck)
    await edge.agent.hear("started", lambda started: started.key == stuck.key)
    edge.agent.order(words.frees([unit_key(unit)]))
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1", keep=[units[0].id]))
    await wait_until(lambda: not (node.state / "tasks" / "run1").exists())
    assert list((node.state / "store" / "content").glob("*/*")) == []
    assert content(node, units[0]) == b"kept\n"
    assert (edge.data_root / "a.csv").read_bytes() == b"some rows"
    edge.agent.hang_up()
    hello = await edge.agent.hear("hello", after=1)
    assert list(hello.units) == [unit_key(units[0])]
    assert not hello.running


async def test_a_restarted_daemon_has_its_units_and_cleans_up_what_was_half_done(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    unit = await source(edge, "a.csv", b"1\n2\n3\n")
    split = order("s", splitter(lines=1), inputs=[given("in", unit)], outputs=["out"])
    edge.agent.start(split)
    made = [made.unit for made in (await edge.agent.result(split.key)).outputs]
    await node.end()
    (node.state / "tasks" / "run1" / "left.1" / "out").mkdir(parents=True)
    (node.state / "store" / "content" / "aa").mkdir(exist_ok=True)
    (node.state / "store" / "content" / "aa" / ("aa" * 32)).write_bytes(b"no unit names it")
    hellos = edge.agent.all("hello")
    again = await edge.start()
    hello = edge.agent.all("hello")[-1]
    assert {key.unit for key in hello.units} == {unit.id, *(part.id for part in made)}
    assert hello.incarnation != hellos[-1].incarnation
    assert [content(again, part) for part in made] == [b"1\n", b"2\n", b"3\n"]
    assert not (node.state / "tasks" / "run1").exists()
    assert not (node.state / "store" / "content" / "aa" / ("aa" * 32)).exists()


async def test_two_daemons_do_not_share_a_state_directory(edge: Cluster) -> None:
    await edge.start("n1")
    with pytest.raises(StateInUseError, match="another node daemon"):
        await serve(edge.config("n1"), lambda _: None, asyncio.Event())


async def test_a_killed_daemon_leaves_no_process_behind(edge: Cluster, tmp_path: Path) -> None:
    """kill -9, with a python worker, a command, its children, and one that has fled into a session of its own."""
    credentials = edge.config().credentials.certificate.parent
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DAEMON,
        str(tmp_path / "n1"),
        edge.address,
        str(credentials),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await edge.agent.hear("hello")
        pids = tmp_path / "pids"
        script = f"echo $$ > {pids}; setsid sleep 1000 & echo $! >> {pids}; sleep 1000 & echo $! >> {pids}; wait"
        waits = order("wait", python("steps:wait", bundle(edge, tmp_path)), parameters={"gate": str(tmp_path / "no")})
        edge.agent.start(order("tree", command("sh", "-c", script)))
        edge.agent.start(waits)
        worker = await pid_in_log(edge, tmp_path / "n1")
        await wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        started = [worker, *map(int, pids.read_text().split())]
        spawner = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        assert all(alive(pid) for pid in [*started, spawner])
        places = list(SHARED_MEMORY.glob(f"bdw-fed-*.{daemon.pid}"))
        daemon.kill()
        await wait_until(lambda: not any(alive(pid) for pid in [*started, spawner]))
        assert not any(place.exists() for place in places), "nor a directory in memory"
    finally:
        with contextlib.suppress(ProcessLookupError):
            daemon.kill()
        await daemon.wait()


async def test_a_killed_spawner_costs_the_running_tasks_and_nothing_more(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    code = bundle(edge, tmp_path)
    waits = order("wait", python("steps:wait", code), parameters={"gate": str(tmp_path / "no")})
    edge.agent.start(waits)
    worker = await pid_in_log(edge, node.state)
    spawner = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(spawner, signal.SIGKILL)
    assert (await edge.agent.result(waits.key)).failure.kind == "lost"
    await wait_until(lambda: not alive(worker))
    after = order("pid", python("steps:pid", code), outputs=["pid"])
    edge.agent.start(after)
    assert (await edge.agent.result(after.key)).failure is None
