"""Programs that stay, in pods: a service's slots share one, and a directory's paths are the pod's own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Watching, Worker, WorkerSpec
from cluster_agent.runtimes.kubernetes.manifest import template
from cluster_agent.runtimes.kubernetes.runtime import KubernetesRuntime
from tests.kubernetes.pods import DEADLINE, PYTHON, Node
from tests.runtimes.test_process import Said
from tests.runtimes.test_service import answer, job, spec


@pytest.fixture
async def runtime(node: Node) -> AsyncIterator[KubernetesRuntime]:
    yield await node.daemon()


async def slots(runtime: KubernetesRuntime, made: WorkerSpec, count: int) -> list[Worker]:
    return list(await asyncio.gather(*(runtime.start(made) for _ in range(count))))


async def test_the_slots_of_a_service_share_a_pod_and_it_goes_with_the_last(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    workers = await slots(runtime, spec(slots=2), 3)
    assert len(node.names) == 2
    pids = []
    for number, worker in enumerate(workers):
        assert (await worker.execute(job(tmp_path, str(number), "copy"), Said())).kind == ""
        pids.append(answer(tmp_path, str(number))["pid"])
    assert pids[0] == pids[1] != pids[2]
    roots = {worker.root for worker in workers}
    assert len(roots) == 3, "each has its tasks' directories for itself"
    await workers[0].stop()
    await workers[2].stop()
    assert len(node.names) == 1
    assert (await workers[1].execute(job(tmp_path, "still", "copy"), Said())).kind == ""
    await workers[1].stop()
    assert node.names == []
    assert node.directories == []


async def test_a_pod_that_is_evicted_is_charged_to_none_of_its_services_tasks(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    first, second = await slots(runtime, spec(slots=2), 2)
    tasks = [
        asyncio.create_task(worker.execute(job(tmp_path, str(number), "listen"), Said()))
        for number, worker in enumerate((first, second))
    ]
    await asyncio.sleep(0)
    [name] = node.names
    node.machine.evict(name)
    for ended in await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE):
        assert ended.kind == "lost"
        assert "evicted" in ended.message.lower()
    assert not (first.alive or second.alive)
    await first.stop()
    await second.stop()


async def test_a_service_that_died_is_started_again_in_the_same_pod(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    for number in range(2):
        worker = await runtime.start(spec())
        ended = await worker.execute(job(tmp_path, str(number), "die"), Said())
        assert (ended.kind, ended.message) == ("exit", "the service ended with exit code 3")
        await worker.stop()
    assert len(node.machine.started) == 1


def test_a_program_that_watches_a_directory_has_its_paths_in_the_pod(node: Node, tmp_path: Path) -> None:
    made = WorkerSpec("watch@1", argv=("watch",), image=PYTHON, watching=Watching())
    plain = template(node.settings, replace(made, watching=None))
    for bundle in (None, tmp_path):
        pod = template(node.settings, replace(made, bundle=bundle)).manifest("0" * 12)
        mounts = {mount["mountPath"]: mount for mount in pod["spec"]["containers"][0]["volumeMounts"]}
        for part in ("sandbox", "in", "work", "out"):
            assert mounts[f"/{part}"] == {"name": "own", "mountPath": f"/{part}", "subPath": f"home/{part}"}
        assert ("/code" in mounts) is (bundle is not None), "without a bundle that is the image's"
        if bundle is not None:
            assert mounts["/code"] == {"name": "bundle", "mountPath": "/code", "readOnly": True}
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in mounts.values()} <= volumes
    assert template(node.settings, made).key != plain.key, "a pod of another step has no such paths"
    assert json.dumps(pod)
    assert sys.executable not in json.dumps(pod)
