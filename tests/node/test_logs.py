"""What tasks print can be read while they run and afterwards, apart for each task, and never fills the disk."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

from bdw_fed.v1 import node_pb2
from cluster_agent.node.logs import LogName, Logs
from tests.node.cluster import NAMESPACE, Cluster, command, logs_request, order, python
from tests.node.steps import bundle

NAME = LogName("default", "run1", "clean", b"t" * 16, 1)


async def read(edge: Cluster, query: int, **request: Any) -> dict[tuple[bytes, str], bytes]:
    """All that a query answers, by task and stream."""
    edge.agent.say(logs=node_pb2.ReadLogs(query=query, request=logs_request(**request)))
    await edge.agent.hear("log", lambda log: log.query == query and log.end)
    said: dict[tuple[bytes, str], bytes] = defaultdict(bytes)
    for chunk in edge.agent.all("log"):
        if chunk.query == query and not chunk.end:
            said[chunk.logs.task, chunk.logs.stream] += chunk.logs.data
    return said


async def test_each_task_has_what_it_wrote_itself(edge: Cluster, tmp_path: Path) -> None:
    """Two tasks, one after the other in the same worker, and two streams."""
    await edge.start()
    code = bundle(edge, tmp_path)
    tasks = [order("talk", python("steps:talk", code), parameters={"lines": lines}, number=lines) for lines in (2, 3)]
    for task in tasks:
        edge.agent.start(task)
        await edge.agent.result(task.key)
    said = await read(edge, 1)
    for task, lines in zip(tasks, (2, 3), strict=True):
        assert said[task.key.task, "stdout"].decode().splitlines() == [f"{number:010}" for number in range(lines)]
        assert said[task.key.task, "stderr"] == b"the end\n"
    assert len(await read(edge, 2, task=tasks[0].key.task)) == 2


async def test_following_hears_what_is_written_next_and_ends_with_the_run(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    fifo = tmp_path / "gate"
    task = order("slow", command("sh", "-c", f"echo one; while [ ! -e {fifo} ]; do sleep 0.01; done; echo two"))
    edge.agent.say(logs=node_pb2.ReadLogs(query=7, request=logs_request(follow=True)))
    edge.agent.start(task)
    await edge.agent.hear("log", lambda log: log.logs.data == b"one\n")
    fifo.touch()
    await edge.agent.hear("log", lambda log: log.logs.data == b"two\n")
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    await edge.agent.hear("log", lambda log: log.end)


async def test_a_hundred_megabytes_keep_their_two_ends_and_say_what_is_missing(edge: Cluster) -> None:
    node = await edge.start()
    task = order("flood", command("sh", "-c", "echo begin; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end"))
    edge.agent.start(task)
    result = await edge.agent.result(task.key)
    assert result.failure is None
    edge.agent.say(logs=node_pb2.ReadLogs(query=1, request=logs_request()))
    await edge.agent.hear("log", lambda log: log.end)
    chunks = [chunk.logs for chunk in edge.agent.all("log") if not chunk.end]
    kept = sum(len(chunk.data) for chunk in chunks)
    assert 7 << 20 < kept < 9 << 20
    assert kept + sum(chunk.left_out for chunk in chunks) == 100_000_000 + len("begin\n\nend\n")
    assert chunks[0].data.startswith(b"begin\n")
    assert chunks[-1].data.endswith(b"x\nend\n")
    assert sum(path.stat().st_size for path in (node.state / "logs").rglob("*.log")) < 9 << 20


async def test_who_follows_slowly_misses_nothing_that_is_kept(tmp_path: Path) -> None:
    logs = Logs(tmp_path, kept=1000)
    log = logs.open(NAME)
    log.write(1, b"a" * 400)
    following = logs.read("default", "run1", "", b"", True)
    first = await anext(following)
    assert (first.data, first.left_out) == (b"a" * 400, 0)
    for number in range(100):
        log.write(1, b"%03d" % number * 10)
    second = await anext(following)
    log.write(2, b"last")
    log.close()
    await logs.end_run("default", "run1")
    rest = [second, *[piece async for piece in following]]
    assert sum(len(piece.data) + piece.left_out for piece in rest) == 3000 + 4
    assert rest[-1].stream == 2
    assert rest[-1].data == b"last"


async def test_logs_of_the_newest_ended_runs_stay(tmp_path: Path) -> None:
    logs = Logs(tmp_path, kept_runs=2)
    for number in range(4):
        name = NAME._replace(run=f"run{number}")
        log = logs.open(name)
        log.write(1, b"x")
        log.close()
        await logs.end_run("default", name.run)
        await asyncio.sleep(0.01)  # file times are what they are ordered by
    assert sorted(path.name for path in (tmp_path / "default").iterdir()) == ["run2", "run3"]
