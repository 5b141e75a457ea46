"""Starts a node daemon: its state directory, the runtime and the store that its configuration says, and ends it.

The state directory is one daemon's: store/ survives, tasks/ is what a crash left and is removed, logs/ and bundles/ are
kept within bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import structlog

from cluster_agent.data.store import DiskStore
from cluster_agent.data.tiers.away import AwayPlace
from cluster_agent.data.tiers.memory import SHARED_MEMORY, MemoryPlace, default_budget, memory_place
from cluster_agent.data.tiers.moving import Places
from cluster_agent.data.transfer.client import TransferClient
from cluster_agent.node import revoked, rows
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.daemon import NodeDaemon
from cluster_agent.relay.dialling import Routes
from cluster_agent.runtimes.base import Room, Runtime
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.process.places import open_places
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from cluster_agent.runtimes.secrets import KeptSecrets
from wire.digests import bytes_digest
from wire.identity import ssl_client_context
from wire.service import allow_many_files

_log = structlog.get_logger(__name__)


class StateInUseError(Exception):
    """Another daemon has this state directory."""


async def serve(config: NodeConfig, ready: Callable[[dict[str, str]], None], stop: asyncio.Event) -> None:
    """Run the daemon until `stop` is set. `ready` gets {"data": address} once data is served; the agent may be away.

    StateInUseError, OSError (the address is taken) or StartError (no interpreter) if it can't start.
    """
    config.state.mkdir(parents=True, exist_ok=True)
    with _only_one(config.state):
        async with _daemon(config) as daemon:
            ready({"data": daemon.data_address})
            await daemon.run(stop)


@contextlib.asynccontextmanager
async def _daemon(config: NodeConfig) -> AsyncIterator[NodeDaemon]:
    async with contextlib.AsyncExitStack() as stack:
        runtime = await _runtime(config)
        store = DiskStore(config.state / "store", capacity=config.disk, places=Places(_memory(config), _away(config)))
        stack.push_async_callback(store.close)
        rows.recover(store, runtime.left())
        await runtime.open()
        stack.push_async_callback(runtime.close)
        # Every warm worker takes three descriptors of ours, every transfer two or more. The spawner, which has started
        # before, and its children keep the usual limit.
        allow_many_files()
        context = ssl_client_context(config.credentials)
        routes = Routes(lambda: context)
        revocations = revoked.known_in(config.state / revoked.FILE)
        client = await stack.enter_async_context(TransferClient(context, routes, revocations))
        daemon = NodeDaemon(config, runtime, store, client, context, routes, revocations)
        stack.push_async_callback(daemon.close)
        await daemon.open()
        yield daemon


def _memory(config: NodeConfig) -> MemoryPlace | None:
    """Where units may lie in memory. Pods don't see such a place."""
    place = config.memory_directory or SHARED_MEMORY
    if config.kubernetes is not None:
        return None
    budget = config.memory_tier
    if budget is None:
        budget = default_budget(config.memory, place)
    try:
        found = memory_place(config.state / "store", budget, place)
        return found._replace(auto=config.memory_tier is not None) if found is not None else None
    except OSError as error:
        _log.warning("no units are kept in memory", error=str(error))
        return None


def _away(config: NodeConfig) -> AwayPlace | None:
    """Where what is cold goes. No name of a cluster or a node has a slash."""
    if config.storage.objects is None:
        return None
    from cluster_agent.data.shared.objects import ObjectStore

    return AwayPlace(ObjectStore(config.storage.objects), f"cold/{config.cluster}/{config.node}/")


async def _runtime(config: NodeConfig) -> Runtime:
    keeps = Keeps(config.state / "rows")
    if config.kubernetes is None:
        places = open_places(config.state, config.memory_directory)
        secrets = KeptSecrets(config.secrets, config.state / "secrets")
        return ProcessRuntime(config.python, places, _owner(config.state), keeps, secrets)
    # A daemon of processes does not pay for what it does not use.
    from cluster_agent.runtimes.kubernetes.surroundings import make_runtime

    return await make_runtime(
        config.kubernetes,
        config.cluster,
        config.node,
        config.state,
        config.memory_directory,
        keeps,
        Room(config.cpus, config.memory),
    )


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(f"{state}: another node daemon is using this directory; give each its own") from None
        yield


def _owner(state: Path) -> str:
    """A name that no other daemon has."""
    return bytes_digest(bytes(state.resolve()))[:8].hex()
