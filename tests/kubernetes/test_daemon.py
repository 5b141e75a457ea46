"""A whole node daemon whose workers are pods keeps the promises of one whose workers are processes.

The tests of the daemon are collected here again, with a fake cluster below it whose pods are real starters.
"""

# ruff: noqa: F401

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bdw_fed.v1 import model_pb2
from cluster_agent.runtimes.kubernetes.surroundings import KubernetesConfig
from tests.kubernetes.fake.machine import Machine
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.pods import IMAGES, PYTHON
from tests.node.cluster import Cluster, cluster, command, content, given, order, python, source, wait_until
from tests.node.steps import bundle
from tests.node.test_daemon import (
    test_a_cancelled_task_is_killed_and_nothing_is_told_of_it,
    test_a_pool_is_warm_before_its_first_task_and_stopped_when_told,
    test_a_worker_is_started_once_and_kept_for_the_next_task,
    test_freed_units_and_ended_runs_leave_the_disk,
)
from tests.node.test_failures import (
    test_a_command_that_fails,
    test_a_python_step_that_fails,
    test_a_step_that_writes_to_its_input_fails,
    test_a_timeout_ends_the_step_and_all_that_it_started,
    test_memory_beyond_the_limit_is_told_as_that,
    test_more_on_the_disk_than_allowed_is_told_as_that,
)
from tests.node.test_light import (
    test_a_worker_that_dies_costs_the_task_it_was_at_and_no_other,
    test_an_output_that_is_large_after_all_is_taken_and_those_behind_it_go_on,
    test_many_tasks_end_in_their_order_with_their_own_outputs,
    test_tasks_behind_one_that_hangs_are_executed_and_it_can_be_cancelled,
    test_what_a_light_task_prints_is_in_its_own_log,
)
from tests.node.test_rows import (
    quick,
    test_a_large_output_is_taken_and_the_next_has_it_as_a_file,
    test_one_that_dies_is_the_last_and_those_before_it_are_done,
)
from tests.node.test_steps import (
    test_a_command_gets_its_words_and_a_chain_of_steps_works,
    test_a_python_step_reads_its_input_and_its_output_becomes_a_unit,
)


@pytest.fixture
async def machine(fake: FakeServer, starter: Path) -> AsyncIterator[Machine]:
    made = Machine(fake, starter, dict(IMAGES))
    yield made
    await made.close()


@pytest.fixture
async def edge(fake: FakeServer, machine: Machine) -> AsyncIterator[Cluster]:
    """A cluster whose nodes have pods for workers."""
    directory = Path(tempfile.mkdtemp(prefix="bdw-"))  # the path of a socket has room for little
    config = KubernetesConfig("fake", str(fake.kubeconfig), "team", starter_image="bdw-fed:1", worker_image=PYTHON)
    async with cluster(directory) as made:
        fake.kubelet.node("n1", cpu="4")  # no more pods are kept warm than there are processors
        made.options |= {"kubernetes": config, "cpus": 0.0}
        yield made
    shutil.rmtree(directory, ignore_errors=True)


async def test_inputs_and_outputs_of_a_pod_are_links_and_no_copies(edge: Cluster, machine: Machine) -> None:
    node = await edge.start()
    unit = await source(edge, "large", b"x" * 100_000)
    script = "tr x y <{in.unit} >{out.unit}; stat -c %i {in.unit} {out.unit} >{out.numbers}"
    told = order("look", command("sh", "-c", script), inputs=[given("unit", unit)], outputs=["unit", "numbers"])
    edge.agent.start(told)
    finished = await edge.agent.result(told.key)
    assert finished.failure is None
    made, numbers = (output.unit for output in finished.outputs)
    units = node.state / "store" / "units" / "default" / "run1"
    stored = [(units / each.id.hex()).stat().st_ino for each in (unit, made)]
    assert stored == [int(number) for number in content(node, numbers).split()]
    [pod] = machine.pods
    assert pod["metadata"]["labels"]["bdw-fed.io/step"] == "look_1"


async def test_a_dataset_on_another_file_system_is_in_the_pod_and_no_link_that_leads_out_of_it(
    edge: Cluster, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = os.link

    def link(source: str | Path, target: str | Path) -> None:
        if Path(source).is_relative_to(edge.data_root):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        links(source, target)

    monkeypatch.setattr(os, "link", link)
    node = await edge.start()
    unit = await source(edge, "large", b"x" * 100_000)
    script = "test ! -L {in.unit} && tr x y <{in.unit} >{out.unit}"
    told = order("look", command("sh", "-c", script), inputs=[given("unit", unit)], outputs=["unit"])
    edge.agent.start(told)
    finished = await edge.agent.result(told.key)
    assert finished.failure is None
    assert content(node, finished.outputs[0].unit) == b"y" * 100_000


async def test_a_daemon_that_is_started_again_goes_on_with_the_pods_of_its_predecessor(
    edge: Cluster, machine: Machine
) -> None:
    spec = command("sh", "-c", "echo {param.n} >{out.unit}")
    node = await edge.start()
    for number in range(3):
        if number:
            await node.end()
            assert len(machine.pods) == 1
            node = await edge.start()
        told = order("echo", spec, outputs=["unit"], parameters={"n": number}, number=number)
        edge.agent.start(told)
        finished = await edge.agent.result(told.key)
        assert content(node, finished.outputs[0].unit) == b"%d\n" % number
    assert len(machine.started) == 1


async def test_tasks_beyond_what_the_quota_allows_are_given_back_and_the_rest_is_done(
    edge: Cluster, machine: Machine, fake: FakeServer
) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}, "status": {"used": {"pods": "0"}}}
    fake.put("resourcequotas", quota)
    await edge.start()
    spec = command("sh", "-c", "echo {param.n} >{out.unit}")
    keys = []
    for number in range(6):
        told = order("echo", spec, outputs=["unit"], parameters={"n": number}, number=number)
        keys.append(told.key)
        edge.agent.start(told)
    ends = [(await edge.agent.result(key)).failure for key in keys]
    assert None in ends
    for failure in filter(None, ends):
        assert failure.kind == "room"
        assert "no room" in failure.message, "found before, or by the API server where others were quicker"
    assert machine.most == 1
    workers = await edge.agent.hear("workers", lambda changed: changed.full)
    assert "quota" in workers.error


async def test_what_the_node_has_is_told_and_that_it_is_cordoned(edge: Cluster, fake: FakeServer) -> None:
    fake.kubelet.node("n1", cpu="3", memory="2Gi")
    await edge.start()
    (hello,) = edge.agent.all("hello")
    assert (hello.status.cpus, hello.status.memory, hello.status.cordoned) == (3.0, 2 << 30, False)
    await fake.watched()
    fake.kubelet.cordon("n1")
    await edge.agent.hear("status", lambda status: status.cordoned)
    told = order("echo", command("true"))
    edge.agent.start(told)
    failure = (await edge.agent.result(told.key)).failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("room", "the node is cordoned: it takes no new tasks")
    fake.kubelet.cordon("n1", False)
    await edge.agent.hear("status", lambda status: not status.cordoned)
    told = order("echo", command("true"), number=1)
    edge.agent.start(told)
    assert (await edge.agent.result(told.key)).failure is None


async def test_a_step_without_a_pod_fails_with_the_clusters_words(edge: Cluster, machine: Machine) -> None:
    await edge.start()
    told = order("s", model_pb2.Execution(command=model_pb2.Execution.Command(argv=["true"]), image="nope:1"))
    edge.agent.start(told)
    finished = await edge.agent.result(told.key)
    assert finished.failure is not None
    assert finished.failure.kind == "start"
    assert "the image 'nope:1' of container 'worker' can't be had" in finished.failure.message


async def test_a_task_whose_pod_is_evicted_is_lost_and_the_next_gets_another_pod(
    edge: Cluster, machine: Machine
) -> None:
    await edge.start()
    spec = command("sh", "-c", "test {param.n} = 1 || sleep 1000; echo fine >{out.unit}")
    first = order("s", spec, outputs=["unit"], parameters={"n": 0})
    edge.agent.start(first)
    await edge.agent.hear("started", lambda started: started.key == first.key)
    machine.evict(machine.pods[0]["metadata"]["name"])
    finished = await edge.agent.result(first.key)
    assert finished.failure is not None
    assert (finished.failure.kind, finished.failure.message.partition(" (")[0]) == ("lost", "the pod was evicted")
    second = order("s", spec, outputs=["unit"], parameters={"n": 1}, number=1)
    edge.agent.start(second)
    assert (await edge.agent.result(second.key)).failure is None
    assert len(machine.started) == 2
    await wait_until(lambda: len(machine.pods) == 1)
