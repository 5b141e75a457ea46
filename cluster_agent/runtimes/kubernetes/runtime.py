"""Starts workers in pods of this node: takes a pod for a step, and starts in it what the step is run by.

    start ──▶ Pods.take ──▶ worker_in, service_in ──▶ PodWorker, PodSlot ──▶ Pods.release

Each pod has a directory of the node's (see `place`). Pods are not ended with the daemon: the next one of this node
adopts them (see `pods`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cluster_agent.runtimes.base import LeftRow, Room, Runtime, Worker, WorkerSpec
from cluster_agent.runtimes.errors import StartError, TemplateError
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.inside import service_in, worker_in
from cluster_agent.runtimes.kubernetes.linked import LinkedPod
from cluster_agent.runtimes.kubernetes.manifest import SECRETS, Settings, template
from cluster_agent.runtimes.kubernetes.pods import Pods
from cluster_agent.runtimes.kubernetes.room import NodeRoom
from cluster_agent.runtimes.kubernetes.worker import PodSlot, PodWorker
from cluster_agent.runtimes.process.argv import check
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.secrets import pointed_to
from cluster_agent.runtimes.services.slots import Held, Services


class KubernetesRuntime(Runtime):
    """Workers in pods of one node. `client` is closed with it."""

    def __init__(
        self, client: Client, settings: Settings, keeps: Keeps | None = None, room: NodeRoom | None = None
    ) -> None:
        self._client = client
        self._settings = settings
        self._keeps = keeps
        self._room = room
        self._pods = Pods(client, settings)
        self._services = Services()
        self._following: asyncio.Task[None] | None = None

    def left(self) -> Sequence[LeftRow]:
        return self._keeps.left if self._keeps is not None else ()

    @property
    def room(self) -> Room | None:
        return self._room.room if self._room is not None else None

    def follow_room(self, changed: Callable[[Room], None]) -> None:
        if self._room is not None:
            self._following = asyncio.create_task(self._room.follow(changed))

    async def open(self) -> None:
        if self._room is not None:
            await self._room.read()
        if self._keeps is not None:
            self._keeps.open()
        self._settings.roots.workers.mkdir(parents=True, exist_ok=True)
        self._pods.open()

    async def start(self, spec: WorkerSpec) -> Worker:
        if spec.user and not self._settings.allow_root:
            raise StartError(
                f"step {spec.definition} wants to be {spec.user} in its pod, which the operator of this cluster "
                "does not allow: leave run.user out if any user can execute the image, or have node daemons get "
                "--allow-root",
                final=True,
            )
        if spec.secrets:
            spec = pointed_to(spec, SECRETS)
        if spec.argv:
            try:
                check(spec.argv)
            except TemplateError as error:
                raise StartError(str(error), final=True) from None
        if spec.service is not None:
            return await self._services.slot(spec, partial(self._service, spec))
        pod = await self._pods.take(template(self._settings, spec))
        with self._unless_it_fails(pod):
            inner = await pod.explained(worker_in(pod.link, spec, pod.place, pod.places, self._keeps))
        return PodWorker(inner, pod.link, spec, pod.place, pod.fate, partial(self._pods.release, pod))

    def bundles(self) -> Collection[Path]:
        return self._pods.bundles()

    def leave(self) -> None:
        self._pods.leave()

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._pods.close()
        await self._client.close()
        if self._keeps is not None:
            self._keeps.close()

    async def _service(self, spec: WorkerSpec) -> Held:
        """A service in a pod of its own, which goes with the last of its slots. StartError."""
        pod = await self._pods.take(template(self._settings, spec))
        with self._unless_it_fails(pod):
            process = await pod.explained(service_in(pod.link, spec, pod.place, pod.fate))

        def fits() -> bool:
            return pod.fate.reason is None

        async def release(died: bool) -> None:
            await self._pods.release(pod, died and fits() and pod.link.present)

        def wrap(slot: Worker) -> Worker:
            place = replace(pod.place, tasks=pod.place.tasks / secrets.token_hex(4))
            return PodSlot(slot, pod.link, spec, place, pod.fate, partial(_forget, place.tasks))

        return Held(process, release, fits, wrap)

    @contextlib.contextmanager
    def _unless_it_fails(self, pod: LinkedPod) -> Iterator[None]:
        """Give back a pod in which nothing could be started."""
        try:
            yield
        except BaseException:
            self._pods.give_back(pod)
            raise


async def _forget(tasks: Path, _reusable: bool) -> None:
    """The slot whose tasks had their directories there is gone."""
    await asyncio.to_thread(shutil.rmtree, tasks, True)
