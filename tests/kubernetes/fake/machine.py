"""The node of a fake cluster whose pods really run: each as the starter, a process of this machine.

Its pods' directories of the node are directories here, at the same paths, as they are in a real cluster. Of an image
there is no more than its name and environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

from cluster_agent.runtimes.process import worker
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.fake.store import Change, Manifest


class Machine:
    """Schedules and runs all pods of a fake server. `room`: how many at a time; `images` that can be pulled."""

    def __init__(self, server: FakeServer, program: Path, images: dict[str, dict[str, str]]) -> None:
        self.images = images
        self.room = 1000
        self.holding = False  # pods are scheduled, and nothing is started
        self.most = 0  # pods that ran at the same time
        self.started: list[str] = []
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._server = server
        self._program = program
        self._ends: dict[str, str] = {}  # why a pod's processes were killed
        self._tasks: set[asyncio.Task[None]] = set()
        server.store.listeners.add(self._changed)

    def _changed(self, change: Change) -> None:
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
        pod = self._server.store.get(kubelet.key(name))
        if len(self.processes) >= self.room:
            words = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector."
            kubelet.unschedulable(name, words)
            return
        image = pod["spec"]["containers"][0]["image"]
        kubelet.schedule(name)
        if image not in self.images:
            words = f'failed to pull and unpack image "{image}": docker.io/library/{image}: not found'
            kubelet.waiting(name, "ErrImagePull", words)
            return
        if not self.holding:
            self._own(self._run(name, pod))

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
            worker.__file__,
            *container["command"][1:],
            env=self.images[container["image"]],
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes[name] = process
        self.started.append(name)
        self.most = max(self.most, len(self.processes))
        kubelet.run(name)
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
        self._server.store.listeners.discard(self._changed)
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*self._tasks)
