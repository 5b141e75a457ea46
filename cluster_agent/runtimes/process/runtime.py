"""Starts workers as processes of this machine: warm interpreters for `python` steps, programs for `command` steps, and
programs that stay for `service` and `directory` steps."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial

from cluster_agent.runtimes.base import LeftRow, Runtime, Worker, WorkerSpec
from cluster_agent.runtimes.directories.worker import DirectoryWorker
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.command import CommandWorker
from cluster_agent.runtimes.process.home import make_home
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.process.link import SpawnerLink
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.python import PythonWorker
from cluster_agent.runtimes.secrets import KeptSecrets
from cluster_agent.runtimes.services.process import ServiceProcess
from cluster_agent.runtimes.services.slots import Held, Services

_ATTEMPTS = 5  # to start a worker while the spawner dies again and again
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")


class ProcessRuntime(Runtime):
    """Workers below one spawner, which is started again if it dies. `python` is the interpreter of `python` steps.

    Without `places` workers take no small jobs, without `keeps` no rows of them. What an earlier runtime of the same
    `owner` has left is ended at the start; a name that no two daemons share.
    """

    def __init__(
        self,
        python: str = sys.executable,
        places: Places | None = None,
        owner: str = "",
        keeps: Keeps | None = None,
        secrets: KeptSecrets | None = None,
    ) -> None:
        self._python = python
        self._places = places
        self._owner = owner
        self._keeps = keeps
        self._secrets = secrets
        self._memory = str(places.memory) if places else ""
        self._link = SpawnerLink(python, owner, self._memory)
        self._opening = asyncio.Lock()
        self._services = Services()

    @property
    def spawner_pid(self) -> int:
        """The process that all workers are children of."""
        return self._link.pid

    def left(self) -> Sequence[LeftRow]:
        return self._keeps.left if self._keeps is not None else ()

    async def open(self) -> None:
        if self._keeps is not None:
            self._keeps.open()
        await self._link.open()

    async def start(self, spec: WorkerSpec) -> Worker:
        if spec.secrets:
            spec = await self._given(spec)
        for left in reversed(range(_ATTEMPTS)):
            link = await self._living_link()
            try:
                if spec.service is not None:
                    return await self._services.slot(spec, partial(self._service, link, spec))
                if spec.watching is not None:
                    home = await asyncio.to_thread(make_home, self._places)
                    return await DirectoryWorker.start(link, spec, base_environment(), home)
                if spec.argv:
                    return await CommandWorker.start(link, spec, base_environment(), self._places)
                return await PythonWorker.start(link, spec, base_environment(), self._places, self._keeps)
            except StartError:
                if link.alive or not left:
                    raise  # else it was the spawner that died, by no fault of the step
        raise AssertionError

    async def _service(self, link: SpawnerLink, spec: WorkerSpec) -> Held:
        home = await asyncio.to_thread(make_home, self._places)
        return Held(await ServiceProcess.start(link, spec, base_environment(), home), _nothing)

    async def close(self) -> None:
        await self._link.close()
        if self._places is not None:
            self._places.close()
        if self._keeps is not None:
            self._keeps.close()
        if self._secrets is not None:
            self._secrets.close()

    async def _given(self, spec: WorkerSpec) -> WorkerSpec:
        """The step, with its secrets. StartError."""
        if self._secrets is None:
            raise StartError(f"step {spec.definition} wants secrets, and there are none here")
        try:
            return await asyncio.to_thread(self._secrets.give, spec)
        except OSError as error:
            raise StartError(f"the secrets of step {spec.definition} can't be given to it: {error}") from None

    async def _living_link(self) -> SpawnerLink:
        """The link to the spawner, which is started again if it has died."""
        async with self._opening:
            if not self._link.alive:
                await self._link.close()
                self._link = SpawnerLink(self._python, self._owner, self._memory)
                await self._link.open()
            return self._link


async def _nothing(_died: bool) -> None:
    return


def base_environment() -> dict[str, str]:
    """What a step's processes inherit of ours: where programs are, the language, the time zone; no secrets."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment.setdefault("PATH", os.defpath)
    environment.setdefault("LANG", "C.UTF-8")
    return environment
