"""What is started in a pod once there is a link to it: the workers of processes, in the pod's own directories."""

from __future__ import annotations

import asyncio
import contextlib

from cluster_agent.runtimes.base import Worker, WorkerSpec
from cluster_agent.runtimes.directories.worker import DirectoryWorker
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes.link import StarterLink
from cluster_agent.runtimes.kubernetes.manifest import BOX
from cluster_agent.runtimes.kubernetes.place import Place
from cluster_agent.runtimes.kubernetes.worker import End, Fate
from cluster_agent.runtimes.process.command import CommandWorker
from cluster_agent.runtimes.process.home import Home, home_in
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.python import PythonWorker
from cluster_agent.runtimes.services.process import ServiceProcess


async def worker_in(
    link: StarterLink, spec: WorkerSpec, place: Place, places: Places | None, keeps: Keeps | None
) -> Worker:
    """A worker of any kind but a service. StartError."""
    env = link.environment()
    if spec.watching is not None:
        return await DirectoryWorker.start(link, spec, env, await _home(place), BOX)
    if spec.argv:
        with contextlib.suppress(StartError):  # the image need not have an interpreter, or one that will do
            if link.hello.python and not spec.user:
                return await CommandWorker.start(link, spec, env, places)
        return await CommandWorker.start(link, spec, env)
    return await PythonWorker.start(link, spec, env, places, keeps)


async def service_in(link: StarterLink, spec: WorkerSpec, place: Place, fate: Fate) -> ServiceProcess:
    """A service. StartError."""
    explained = End(link, spec, fate).explained
    return await ServiceProcess.start(link, spec, link.environment(), await _home(place), explained)


async def _home(place: Place) -> Home:
    """Of a program that stays. StartError."""
    try:
        return await asyncio.to_thread(home_in, place.home, place.calls)
    except OSError as error:
        raise StartError(f"the program's directory could not be made: {error}") from None
