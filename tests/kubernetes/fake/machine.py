"""The nodes of a fake cluster whose pods really run: each as the starter, a process of this machine.

Its pods' directories of the node are directories here, at the same paths, as they are in a real cluster. Of an image
there is no more than its name and environment. A pod whose node is cordoned, or has no processors left, waits until
that has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

from cluster_agent.runtimes.kubernetes.api.quantity import parse
from cluster_agent.runtimes.process import worker
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.fake.store import Change, Key, Manifest


class Machine:
    """Schedules and runs all pods of a fake server. `images` that can be pulled.

    `cpus`: what pods may ask for together on a node, by its name; of others there is no end.
    """

    def __init__(self, server: FakeServer, program: Path, images: dict[str, dict[str, str]]) -> None:
        self.images = images
        self.cpus: dict[str, float] = {}
        self.holding = False  # pods are scheduled, and nothing is started
        self.most = 0  # pods that ran at the same time
        self.started: list[str] = []
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._server = server
        self._program = program
        self._closed = False
        self._ends: dict[str, str] = {}  # why a pod's processes were killed
        self._tasks: set[asyncio.Task[None]] = set()
        server.store.listeners.add(self._changed)

    def _changed(self, change: Change) -> None:
        if change.key.plural == "nodes" or (change.key.plural == "pods" and change.after is None):
            asyncio.get_running_loop().call_soon(self.schedule)
        if change.key.plural != "pods" or change.after is None:
            return
        name = change.key.name
        if change.before is None:
            asyncio.get_running_loop().call_soon(self._begin, name)
        elif change.after["metadata"].get("deletionTimestamp") and not change.before["metadata"].get(
            "deletionTimestamp"
        ):
            asyncio.get_running_loop().call_soon(self._end, name)

    @property
    def pods(self) -> list[Manifest]:
        return list(self._server.store.within("pods"))

    def _begin(self, name: str) -> None:
        kubelet = self._server.kubelet
        if kubelet.key(name) not in self._server.store.objects:
            return
        pod = self._server.store.get(kubelet.key(name))
        if pod["spec"].get("nodeName"):
            return
        node = _node_of(pod)
        why = self._unfit(pod, node)
        if why:
            kubelet.unschedulable(
                name, f"0/2 nodes are available: 1 {why}, 1 node(s) didn't match Pod's node affinity."
            )
            return
        image = pod["spec"]["containers"][0]["image"]
        kubelet.schedule(name, node)
        if image not in self.images:
            words = f'failed to pull and unpack image "{image}": docker.io/library/{image}: not found'
            kubelet.waiting(name, "ErrImagePull", words)
            return
        if not self.holding:
            self._own(self._run(name, pod))

    def schedule(self) -> None:
        """Look again at the pods that wait for a place."""
        for pod in self.pods:
            if not pod["spec"].get("nodeName") and not self._unfit(pod, _node_of(pod)):
                self._begin(pod["metadata"]["name"])

    def _unfit(self, pod: Manifest, node: str) -> str:
        """Why the scheduler does not take a node for a pod."""
        found = self._server.store.objects.get(Key("nodes", "", node))
        if found is not None and found["spec"].get("unschedulable"):
            return "node(s) were unschedulable"
        there = [each for each in self.pods if each["spec"].get("nodeName") == node and _lives(each)]
        if sum(map(_cpus, there)) + _cpus(pod) > self.cpus.get(node, float("inf")):
            return "Insufficient cpu"
        return ""

    def begin(self, name: str) -> None:
        """Start a pod that was held."""
        self._own(self._run(name, self._server.store.get(self._server.kubelet.key(name))))

    async def _run(self, name: str, pod: Manifest) -> None:
        kubelet = self._server.kubelet
        for volume in pod["spec"]["volumes"]:
            if "hostPath" in volume:
                assert Path(volume["hostPath"]["path"]).is_dir(), volume
        container = pod["spec"]["containers"][0]
        process = await asyncio.create_subprocess_exec(
            self._program,
            "--worker",
            str(Path(worker.__file__).parent),
            *container["command"][1:],
            env=self.images[container["image"]],
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes[name] = process
        if self._closed:
            process.kill()
        self.started.append(name)
        self.most = max(self.most, len(self.processes))
        kubelet.run(name, _node_of(pod))
        _, words = await process.communicate()
        kubelet.logs[name, container["name"], False] = words.decode()
        del self.processes[name]
        self._tell_end(name, process.returncode or 0)

    def _tell_end(self, name: str, code: int) -> None:
        kubelet = self._server.kubelet
        if kubelet.key(name) not in self._server.store.objects:
            return
        why = self._ends.pop(name, "")
        if self._server.store.get(kubelet.key(name))["metadata"].get("deletionTimestamp"):
            kubelet.gone(name)
        elif why == "memory":
            kubelet.oom(name)
        elif why == "":
            kubelet.fail(name, exit_code=code if code >= 0 else 128 - code)

    def _end(self, name: str) -> None:
        process = self.processes.get(name)
        if process is None:
            self._server.kubelet.gone(name)
        else:
            process.send_signal(signal.SIGTERM)

    def out_of_memory(self, name: str) -> None:
        """The kernel kills all of a pod, as it does where a container is a group."""
        self._ends[name] = "memory"
        self.processes[name].kill()

    def evict(self, name: str) -> None:
        """The kubelet ends a pod."""
        self._ends[name] = "evicted"
        self._server.kubelet.evict(name)
        self.processes[name].send_signal(signal.SIGTERM)

    def _own(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Kill all pods."""
        self._closed = True
        self._server.store.listeners.discard(self._changed)
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*self._tasks)


def _node_of(pod: Manifest) -> str:
    """The one node that a pod may be on."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", []):
        for field in term.get("matchFields", []):
            return str(field["values"][0])
    return "n1"


def _cpus(pod: Manifest) -> float:
    asked = (each["resources"].get("requests", {}).get("cpu", "0") for each in pod["spec"]["containers"])
    return float(sum(map(parse, asked)))


def _lives(pod: Manifest) -> bool:
    return pod["status"]["phase"] not in ("Failed", "Succeeded")
