"""Pods as workers: what every runtime owes the node daemon, and what only a cluster can do to one.

The pods are real starters, on a fake cluster; see `fake.machine`.
"""

# The promises of all runtimes are collected here too, with pods in place of processes.
# ruff: noqa: F401, F811

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster_agent.runtimes.base import Job, Outcome, SmallWork, Worker, WorkerSpec
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes import held, judging
from cluster_agent.runtimes.kubernetes.api.objects.kinds import PODS
from cluster_agent.runtimes.kubernetes.api.reasons import Cause, Reason
from cluster_agent.runtimes.kubernetes.runtime import KubernetesRuntime
from cluster_agent.runtimes.kubernetes.worker import Fate
from tests.kubernetes.fake.faults import Fault
from tests.kubernetes.pods import DEADLINE, PYTHON, SCRATCH, Node
from tests.runtimes.test_process import (
    Said,
    bundle,
    gone,
    job,
    python,
    test_a_command_that_ends_leaves_no_child,
    test_a_module_that_ends_the_interpreter_is_a_failure_to_start,
    test_all_that_is_written_is_heard_before_the_outcome,
    test_cancelling_kills_a_command_with_all_its_processes,
    test_cancelling_kills_a_task_with_all_its_processes,
    test_whatever_a_function_does_has_an_outcome,
    until_gone,
)
from tests.runtimes.test_rows import (
    steps,
    test_a_large_output_ends_a_row_and_is_left,
    test_each_has_the_output_of_the_one_before_and_its_own_words,
    test_nothing_is_executed_behind_one_that_has_not_made_its_input,
)
from tests.runtimes.test_small import (
    Heard,
    Task,
    start,
    test_a_death_is_charged_to_the_job_that_the_worker_was_at,
    test_many_are_done_in_order_each_with_its_own_input,
    test_what_each_writes_is_its_own,
    test_whatever_a_job_does_has_an_end,
)

TRUE = ("true",)


def command(*argv: str, **options: Any) -> WorkerSpec:
    return WorkerSpec("s@1", argv=argv, **options)


async def outcome(worker: Worker, made: Job, *, said: Said | None = None) -> Outcome:
    return await asyncio.wait_for(worker.execute(made, said or Said()), DEADLINE)


# ---------------------------------------------------------------------------------------------------------- a pod


async def test_a_pod_asks_for_what_its_step_does_on_its_own_node_and_for_nothing_else(
    node: Node, runtime: KubernetesRuntime, bundle: Path
) -> None:
    spec = python("report", bundle, memory=1 << 30, cpus=0.5, image=PYTHON)
    worker = await runtime.start(spec)
    [pod] = node.machine.pods
    worked = pod["spec"]["containers"][0]
    asked = worked["resources"]
    assert asked["requests"] == {"cpu": "500m", "memory": "1Gi"}
    assert asked["limits"] == {"memory": "1536Mi"}
    assert not pod["spec"]["automountServiceAccountToken"]
    assert not pod["spec"]["enableServiceLinks"]
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (worked, *pod["spec"]["initContainers"]):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"]["allowPrivilegeEscalation"]
    mounted = {volume["name"]: volume["hostPath"]["path"] for volume in pod["spec"]["volumes"] if "hostPath" in volume}
    assert worker.root is not None
    assert mounted == {"own": str(worker.root.parent), "bundle": str(bundle)}
    assert {mount["mountPath"]: mount.get("readOnly", False) for mount in worked["volumeMounts"]} == {
        "/.bdw-fed": True,
        str(bundle): True,
        str(worker.root.parent): False,
    }
    [term] = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]
    await worker.stop()


async def test_a_command_needs_nothing_in_the_image(node: Node, runtime: KubernetesRuntime, tmp_path: Path) -> None:
    said = Said()
    worker = await runtime.start(command("/bin/cat", "{in.unit}", image=SCRATCH))
    made = job(tmp_path)
    (tmp_path / "unit").write_text("all of it")
    found = await outcome(worker, Job(made.directory, {"unit": tmp_path / "unit"}, {}, env=made.env), said=said)
    assert found.kind == ""
    assert said.streams[1] == b"all of it"
    await worker.stop()


async def test_what_the_image_says_is_found_and_what_the_cluster_adds_is_not(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    node.machine.images[PYTHON] |= {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "HOSTNAME": "pod"}
    worker = await runtime.start(command("env"))
    said = Said()
    await outcome(worker, job(tmp_path), said=said)
    names = {line.partition("=")[0] for line in said.streams[1].decode().splitlines()}
    assert {"PATH", "OF_THE_IMAGE", "LANG", "HOME", "TMPDIR"} <= names
    assert not names & {"KUBERNETES_SERVICE_HOST", "HOSTNAME"}
    await worker.stop()


async def test_modules_of_the_images_own_python_path_are_found_and_none_of_the_working_directory(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    for folder in ("image", "code", "task/relative"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "image" / "placed.py").write_text("WORDS = 'of the image'")
    (tmp_path / "image" / "steps.py").write_text("raise ImportError('the bundle comes first')")
    (tmp_path / "task" / "relative" / "astray.py").write_text("")
    (tmp_path / "task" / "alsoastray.py").write_text("")
    (tmp_path / "code" / "steps.py").write_text(
        "import importlib.util, placed\n"
        "def main(out):\n"
        "    found = [importlib.util.find_spec(name) for name in ('astray', 'alsoastray', 'worker')]\n"
        "    print(placed.WORDS, found)\n"
    )
    node.machine.images[PYTHON] |= {"PYTHONPATH": f":{tmp_path / 'image'}:relative:."}
    worker = await runtime.start(WorkerSpec("s@1", function="steps:main", bundle=tmp_path / "code"))
    said = Said()
    ended = await outcome(worker, Job(tmp_path / "task", {}, {}), said=said)
    assert ended.kind == ""
    assert said.streams[1] == b"of the image [None, None, None]\n"
    await worker.stop()


async def test_python_without_an_interpreter_is_explained_and_the_pod_is_not_wasted(
    node: Node, runtime: KubernetesRuntime, bundle: Path
) -> None:
    for _ in range(2):
        with pytest.raises(StartError, match="this image has no Python"):
            await runtime.start(python("report", bundle, image=SCRATCH))
    assert len(node.machine.started) == 1


async def test_from_zero_to_eight_and_back_there_are_as_many_pods_as_workers(
    node: Node, runtime: KubernetesRuntime
) -> None:
    workers = await asyncio.gather(*(runtime.start(command(*TRUE)) for _ in range(8)))
    assert len(node.names) == len(set(node.names)) == 8
    assert len(node.directories) == 8
    assert node.machine.most == 8
    await asyncio.gather(*(worker.stop() for worker in workers))
    assert node.names == []
    assert node.directories == []


async def test_a_killed_interpreter_is_replaced_in_the_same_pod(
    node: Node, runtime: KubernetesRuntime, bundle: Path, tmp_path: Path
) -> None:
    for number in range(3):
        worker = await runtime.start(python("hang", bundle))
        said = Said()
        task = asyncio.create_task(worker.execute(job(tmp_path, str(number)), said))
        await said.line()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not worker.alive
        await worker.stop()
    assert len(node.machine.started) == 1


# ------------------------------------------------------------------------------------------------------------ root


async def test_who_wants_to_be_root_is_refused_unless_the_operator_allows_it(
    node: Node, runtime: KubernetesRuntime
) -> None:
    words = r"step s@1 wants to be root in its pod, .*leave run\.user out.*--allow-root"
    with pytest.raises(StartError, match=words):
        await runtime.start(command(*TRUE, user="root"))
    assert node.names == []


@pytest.mark.skipif(os.getuid() != 0, reason="NOT ROOT: that a root's files are given away is not tested")
async def test_what_root_makes_becomes_the_daemons_and_its_pod_has_no_more_rights_than_needed(
    node: Node, tmp_path: Path
) -> None:
    node.settings = replace(node.settings, user=65532, group=65532, allow_root=True)
    runtime = await node.daemon()
    await (await runtime.start(command(*TRUE))).stop()
    script = "umask 077; mkdir out/deep; echo x >out/deep/file; ln -s /etc/hostname out/link; id -u"
    worker = await runtime.start(command("sh", "-c", script, user="root", image=PYTHON))
    [pod] = node.machine.pods
    assert pod["spec"]["securityContext"]["runAsUser"] == 65532
    [init] = pod["spec"]["initContainers"]
    assert "runAsUser" not in init["securityContext"], "what puts our program there is nobody's root"
    [worked] = pod["spec"]["containers"]
    assert worked["securityContext"] == {
        "runAsUser": 0,
        "runAsNonRoot": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]},
    }
    assert not worker.takes_small
    outside = Path("/etc/hostname").stat().st_uid
    made, said = job(tmp_path), Said()
    assert (await outcome(worker, made, said=said)).kind == ""
    assert said.streams[1] == b"0\n"
    paths = [made.directory, *made.directory.rglob("*")]
    assert {path.lstat().st_uid for path in paths} == {path.lstat().st_gid for path in paths} == {65532}
    assert Path("/etc/hostname").stat().st_uid == outside, "links are not followed"
    await worker.stop()


# ------------------------------------------------------------------------------------------- what does not come up


async def test_an_image_that_does_not_exist_is_told_at_once(node: Node, runtime: KubernetesRuntime) -> None:
    with pytest.raises(StartError, match=r"the image 'nope:1' of container 'worker' can't be had: .*not found"):
        await asyncio.wait_for(runtime.start(command(*TRUE, image="nope:1")), DEADLINE)
    await node.until(lambda: not node.names)
    await node.until(lambda: not node.directories)


async def test_a_starter_that_ends_is_told_with_its_last_words(node: Node, runtime: KubernetesRuntime) -> None:
    node.machine.holding = True
    starting = asyncio.create_task(runtime.start(command(*TRUE)))
    await node.until(lambda: node.names)
    [name] = node.names
    (node.state / "workers" / name.rpartition("-")[2] / "socket").write_text("in the way")
    node.machine.begin(name)
    with pytest.raises(StartError, match=r"container 'worker' ended with exit code 2") as failed:
        await asyncio.wait_for(starting, DEADLINE)
    assert "something else than a socket" in failed.value.detail


async def test_a_quota_is_asked_before_and_named(node: Node, runtime: KubernetesRuntime) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}, "status": {"used": {"pods": "0"}}}
    node.server.put("resourcequotas", quota)
    worker = await runtime.start(command(*TRUE))
    await asyncio.sleep(0.6)  # what was read of quotas is used for half a second
    creations = [request for request in node.server.requests if request[0] == "POST"]
    with pytest.raises(StartError, match=r"no room for another pod: quota 'few' has 0 pods left of 1") as refused:
        await runtime.start(command(*TRUE))
    assert refused.value.no_room
    assert [request for request in node.server.requests if request[0] == "POST"] == creations
    await worker.stop()
    await asyncio.sleep(0.6)
    again = await runtime.start(command(*TRUE))
    await again.stop()


async def test_room_that_our_own_pods_are_about_to_leave_is_waited_for(node: Node, runtime: KubernetesRuntime) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}, "status": {"used": {"pods": "0"}}}
    node.server.put("resourcequotas", quota)
    first = await runtime.start(command(*TRUE))
    stopping = asyncio.create_task(first.stop())
    await node.until(lambda: runtime._pods.leaving)
    second = await runtime.start(command("false"))
    await stopping
    assert len(node.names) == 1
    await second.stop()


async def test_pods_that_nobody_uses_leave_their_room_to_one_that_is_asked_for(
    node: Node, runtime: KubernetesRuntime
) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}, "status": {"used": {"pods": "0"}}}
    node.server.put("resourcequotas", quota)
    node.machine.holding = True
    starting = asyncio.create_task(runtime.start(command(*TRUE)))
    await node.until(lambda: node.names)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    node.machine.holding = False
    await asyncio.sleep(0.6)  # what was read of quotas is used for half a second
    worker = await asyncio.wait_for(runtime.start(command(*TRUE, memory=1 << 28)), DEADLINE)
    assert len(node.names) == 1
    await worker.stop()


async def test_a_node_without_room_says_so_soon_and_the_pod_does_not_stay(
    node: Node, runtime: KubernetesRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(judging._PATIENCE, Cause.UNSCHEDULABLE, 0.2)
    node.machine.cpus["n1"] = 1.0
    worker = await runtime.start(command(*TRUE, cpus=1.0))
    with pytest.raises(StartError, match=r"no node can take the pod: .*Insufficient cpu") as refused:
        await asyncio.wait_for(runtime.start(command(*TRUE, cpus=1.0)), DEADLINE)
    assert refused.value.no_room
    await node.until(lambda: len(node.names) == 1)
    await worker.stop()
    again = await asyncio.wait_for(runtime.start(command(*TRUE, cpus=1.0)), DEADLINE)
    await again.stop()


async def test_a_quota_that_others_fill_meanwhile_is_told_likewise(node: Node, runtime: KubernetesRuntime) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}, "status": {"used": {"pods": "0"}}}
    node.server.put("resourcequotas", quota)
    found = await asyncio.gather(*(runtime.start(command(*TRUE)) for _ in range(5)), return_exceptions=True)
    workers = [worker for worker in found if isinstance(worker, Worker)]
    assert len(workers) == 2
    for error in found:
        assert isinstance(error, Worker | StartError)
        assert isinstance(error, Worker) or error.no_room
    await asyncio.gather(*(worker.stop() for worker in workers))


async def test_a_step_that_no_limit_allows_finds_no_room_later_either(node: Node, runtime: KubernetesRuntime) -> None:
    limit = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}}
    node.server.put("limitranges", limit)
    with pytest.raises(StartError, match=r"takes no such pod: container .* LimitRange 'small'") as refused:
        await runtime.start(command(*TRUE, memory=1 << 30))
    assert not refused.value.no_room


async def test_a_creation_whose_answer_is_lost_makes_one_pod(node: Node, runtime: KubernetesRuntime) -> None:
    node.server.faults.add(Fault(1, "POST", "pods", after=True))
    worker = await runtime.start(command(*TRUE))
    assert len(node.names) == 1
    await worker.stop()


async def test_a_start_that_is_not_wanted_any_more_leaves_a_pod_for_the_next(
    node: Node, runtime: KubernetesRuntime
) -> None:
    node.machine.holding = True
    starting = asyncio.create_task(runtime.start(command(*TRUE)))
    await node.until(lambda: node.names)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    again = asyncio.create_task(runtime.start(command(*TRUE)))
    node.machine.begin(node.names[0])
    worker = await again
    assert len(node.names) == 1
    await worker.stop()


# ------------------------------------------------------------------------------------------------- what does not last


async def running(node: Node, runtime: KubernetesRuntime, tmp_path: Path) -> tuple[Worker, asyncio.Task[Outcome]]:
    """A worker with a task that runs for ever."""
    worker = await runtime.start(command("sh", "-c", "echo up; exec sleep 1000"))
    said = Said()
    task = asyncio.create_task(worker.execute(job(tmp_path), said))
    await said.line()
    return worker, task


async def test_a_pod_that_takes_too_much_memory_fails_its_task_for_that(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    worker, task = await running(node, runtime, tmp_path)
    node.machine.out_of_memory(node.names[0])
    found = await asyncio.wait_for(task, DEADLINE)
    assert found.kind == "memory"
    assert "container 'worker' was killed because it wanted more than" in found.message
    assert not worker.alive
    await worker.stop()
    await node.until(lambda: not node.names)


async def test_a_pod_that_is_evicted_loses_its_task_and_says_why(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    worker, task = await running(node, runtime, tmp_path)
    node.machine.evict(node.names[0])
    found = await asyncio.wait_for(task, DEADLINE)
    assert (found.kind, found.message) == (
        "lost",
        "the pod was evicted (node n1): The node was low on resource: memory.",
    )
    await worker.stop()


async def test_a_pod_that_somebody_deletes_loses_its_task_by_no_fault_of_the_step(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    worker, task = await running(node, runtime, tmp_path)
    await runtime._client.delete(PODS, node.names[0], "team")
    found = await asyncio.wait_for(task, DEADLINE)
    assert (found.kind, found.message) == ("lost", "the pod was deleted")
    await worker.stop()
    await node.until(lambda: not node.directories)


async def test_an_idle_pod_that_dies_is_told(node: Node, runtime: KubernetesRuntime) -> None:
    worker = await runtime.start(command(*TRUE))
    node.machine.processes[node.names[0]].kill()
    await asyncio.wait_for(worker.gone.wait(), DEADLINE)
    assert not worker.alive
    await worker.stop()
    await node.until(lambda: not node.names)


async def test_a_small_job_whose_pod_ends_is_lost_for_the_pods_reason_and_the_rest_is_returned(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def learn(fate: Fate) -> Reason | None:
        asked.set()
        await answer.wait()
        return fate.reason

    monkeypatch.setattr(Fate, "learn", learn)
    worker, work = await start(runtime, tmp_path, "wait")  # type: ignore[arg-type]
    heard = Heard()
    jobs = [Task(work, b"%d" % number, number) for number in (1, 2, 3)]
    worker.give(jobs, heard)
    await node.until(lambda: jobs[0].words[1])
    node.machine.evict(node.names[0])
    await asked.wait()
    assert not worker.alive
    late = Task(work, b"4", 4)  # before it is known why, and told
    worker.give([late], heard)
    answer.set()
    await heard.until(0, 1)
    [(charged, found, others)] = heard.deaths
    assert charged is jobs[0]
    assert (found.kind, found.message.partition(" (")[0]) == ("lost", "the pod was evicted")
    assert sorted(others, key=lambda job: job.task) == [*jobs[1:], late]
    await worker.stop()


# --------------------------------------------------------------------------------------------------- other daemons


async def test_warm_pods_survive_their_daemon_and_are_adopted_never_duplicated(
    node: Node, runtime: KubernetesRuntime, bundle: Path, tmp_path: Path
) -> None:
    spec = python("report", bundle)
    workers = [await runtime.start(spec) for _ in range(3)]
    warm = set(node.names)
    runtime.leave()
    await asyncio.gather(*(worker.stop() for worker in workers))
    assert set(node.names) == warm
    again = await node.restart()
    adopted = await asyncio.gather(*(again.start(spec) for _ in range(4)))
    assert warm < set(node.names)
    assert len(node.names) == 4
    assert len(node.machine.started) == 4
    for number, worker in enumerate(adopted):
        assert (await outcome(worker, job(tmp_path, str(number)))).kind == ""
    await asyncio.gather(*(worker.stop() for worker in adopted))
    assert node.names == []


async def test_what_ran_under_a_killed_daemon_is_dead_before_its_pod_is_used_again(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    worker = await runtime.start(command("sh", "-c", "echo $$; exec sleep 1000"))
    said = Said()
    task = asyncio.create_task(worker.execute(job(tmp_path), said))
    pid = int((await said.line())[0])
    await node.runtimes.pop().close()  # its sockets are closed, as by the kernel
    again = await node.daemon()
    adopted = await again.start(command("sh", "-c", "echo $$; exec sleep 1000"))
    assert gone(pid)
    assert len(node.names) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await adopted.stop()


async def test_what_nobody_asks_for_is_collected(
    node: Node, runtime: KubernetesRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = await runtime.start(command(*TRUE))
    monkeypatch.setattr(held, "SPARE_SECONDS", 0.2)
    runtime.leave()
    await left.stop()
    (node.state / "workers" / "0123456789ab" / "tasks").mkdir(parents=True)
    again = await node.restart()
    other = await again.start(command("false"))
    await node.until(lambda: len(node.names) == 1)
    assert node.names[0].endswith(other.root.parent.name)
    await node.until(lambda: len(node.directories) == 1)
    await other.stop()


async def test_pods_of_others_are_left_alone(node: Node, runtime: KubernetesRuntime) -> None:
    worker = await runtime.start(command(*TRUE))
    for name, labels in (("mine", {}), ("theirs", {"bdw-fed.io/owner": "0123456789abcdef"})):
        node.server.put("pods", {**node.machine.pods[0], "metadata": {"name": name, "labels": labels}})
    await worker.stop()
    assert sorted(node.names) == ["mine", "theirs"]


async def test_a_step_of_another_version_gets_a_pod_of_its_own(node: Node, runtime: KubernetesRuntime) -> None:
    specs = [command(*TRUE), command(*TRUE, image=SCRATCH), command(*TRUE, memory=1 << 28)]
    for spec in specs:
        starting = asyncio.create_task(runtime.start(spec))
        await node.until(starting.done)
    again = await node.restart()
    adopted = [await again.start(spec) for spec in reversed(specs)]
    assert len(node.names) == len(node.machine.started) == 3
    labels = {pod["metadata"]["labels"]["bdw-fed.io/template"] for pod in node.machine.pods}
    assert len(labels) == 3
    for worker in adopted:
        await worker.stop()


async def test_an_api_server_that_is_away_is_told_to_whoever_waits(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.server.faults.add(Fault(1000, "GET", "pods", status=403, message="pods is forbidden"))
    runtime = await node.daemon()
    with pytest.raises(StartError, match="no pod can be had: can't list pods in team: pods is forbidden"):
        await asyncio.wait_for(runtime.start(command(*TRUE)), DEADLINE)
