"""What a topology says of storage, in a whole federation: memory, a Redis and a bucket, with their real servers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from federation import HERE, PREFIX, Federation

from bdw_fed.cli.exits import NOT_FOUND
from cluster_agent.data.shared.objects import ObjectStore
from tests.fixtures.shared import RedisServer, S3Server

pytestmark = [
    pytest.mark.fault,
    pytest.mark.parametrize("federation", [pytest.param("process", marks=pytest.mark.slow)], indirect=True),
]
PATIENCE = 60.0
PIECES = 6
SMALL, LARGE = 64, 1100  # KiB: what goes to the Redis, and what is too much for it
LIST = "".join(f"{index}\n" for index in range(PIECES))


@pytest.fixture
def workflow(federation: Federation) -> str:
    federation.apply(HERE / "stored" / "workflow.yaml")
    return "stored"


@pytest.fixture
def dying(redis_server: RedisServer, s3_server: S3Server) -> Iterator[Callable[[], None]]:
    """What kills both servers; they are there again for the next test."""

    def kill() -> None:
        redis_server.stop()
        s3_server.stop()

    yield kill
    for server in (redis_server, s3_server):
        if server.process is None:
            server.start()


def objects(server: S3Server, directory: str) -> list[str]:
    """The names of what lies below a directory of the bucket."""

    async def listed() -> list[str]:
        store = ObjectStore(server.config(PREFIX))
        try:
            return [name async for name in store.names(directory)]
        finally:
            await store.close()

    return asyncio.run(listed())


def lose_disks(federation: Federation) -> None:
    """The nodes of edge1 die, and their disks with them; they are started again."""
    for node in [each for each in federation.supervised()[1] if each["name"].startswith("node-edge1.")]:
        os.kill(node["pid"], signal.SIGSTOP)  # so that nothing is written while it goes
        for path in list((federation.state / node["name"] / "store").iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        os.kill(node["pid"], signal.SIGKILL)


def taken(federation: Federation, run: str) -> int:
    """How many units of a run came out of a place that nodes share."""
    told = (json.loads(line) for line in federation.call("events", run, "-o", "json").splitlines())
    fetched = [json.loads(event["dataJson"]) for event in told if event["type"] == "io.bdw-fed.unit.fetched"]
    return sum(each.get("from") == "shared" for each in fetched)


def tiers(federation: Federation, cluster: str) -> list[dict[str, Any]]:
    """The tiers of the first node of a cluster that has something in object storage, as `describe cluster` has them."""
    nodes: list[dict[str, Any]] = federation.ask("describe", "cluster", cluster)["nodes"]
    found: list[dict[str, Any]] = max((node["tiers"] for node in nodes), key=_in_objects)
    return found


def _in_objects(tiers: list[dict[str, Any]]) -> int:
    return sum(int(tier.get("used", 0)) for tier in tiers if tier["name"] == "objects")


def files(federation: Federation, run: str) -> list[str]:
    """What the disks of edge1 have of the units of a run."""
    return [path.name for path in federation.state.glob(f"node-edge1.*/store/units/default/{run}/*")]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        threading.Event().wait(0.05)


def check(federation: Federation, run: str, directory: Path, kilobytes: int) -> None:
    """Each piece is there once, and whole."""
    federation.insist("outputs", run, "pieces", "list", "--to", str(directory))
    outputs = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert outputs.pop("list.txt").decode() == LIST
    found = []
    for content in outputs.values():
        first, *lines = content.decode().splitlines()
        assert len(lines) == kilobytes * 1024 // 64
        assert {line.strip() for line in lines} == {first}
        found.append(int(first.split()[1]))
    assert sorted(found) == list(range(PIECES))


@pytest.mark.parametrize("kilobytes", [SMALL, LARGE])
def test_outputs_go_to_the_bucket_come_back_from_there_and_leave_nothing(
    federation: Federation, workflow: str, s3_server: S3Server, kilobytes: int, tmp_path: Path
) -> None:
    run = federation.submit(workflow, pieces=PIECES, kilobytes=kilobytes)
    federation.call("wait", run)
    until(lambda: len(objects(s3_server, f"units/default/{run}/edge1/")) == PIECES, "all pieces are in the bucket")
    until(lambda: len(files(federation, run)) == PIECES, "what is kept for a while only is gone")
    until(lambda: all(name.endswith(".ref") for name in files(federation, run)), "no piece is on a disk of its cluster")
    federation.call("outputs", run, "made", "--to", str(tmp_path / "made"), expect=(NOT_FOUND,))
    until(
        lambda: _in_objects(tiers(federation, "edge1")) > 0, "the cluster is described with what it has in the bucket"
    )
    assert [tier["name"] for tier in tiers(federation, "edge1")] == ["memory", "disk", "objects", "shared", "shared"]
    lose_disks(federation)
    until(lambda: len(files(federation, run)) == PIECES, "nodes have taken over what those have lost")
    check(federation, run, tmp_path, kilobytes)
    if kilobytes == LARGE:
        assert taken(federation, run) >= PIECES, "what is in a bucket of both clusters crosses no link"
    federation.call("delete", f"run/{run}")
    until(lambda: not objects(s3_server, f"units/default/{run}/"), "nothing of the run is in the bucket")


@pytest.mark.parametrize("kilobytes", [SMALL, LARGE])
def test_servers_that_die_in_the_middle_of_a_run_change_nothing(
    federation: Federation, workflow: str, dying: Callable[[], None], kilobytes: int, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = federation.submit(workflow, pieces=PIECES, kilobytes=kilobytes, gate=str(gate))
    federation.wait_until_running(run)
    dying()
    gate.touch()
    federation.call("wait", run)
    check(federation, run, tmp_path / "outputs", kilobytes)
    federation.call("delete", f"run/{run}")
