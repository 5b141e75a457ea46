"""The node daemon: one process a node, which holds the node's data and workers and serves its cluster's coordinator.

    agent ◀── link ──▶ daemon ─▶ tasks (core, executions) ─▶ runtime ─▶ workers
                          │            │
                          └─▶ data ─▶ store ◀─ data server ◀── other nodes

The state directory is one daemon's: store/ survives, tasks/ is what a crash left and is removed, logs/ and bundles/ are
kept within bounds. While the agent is away tasks go on, and their results wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.scrub.scrubber import MOST_BYTES, PERIOD_SECONDS, Scrubber
from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.giving import Giving
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.data.space import coarse
from cluster_agent.data.store import DiskStore
from cluster_agent.data.tiers.away import AwayPlace
from cluster_agent.data.tiers.memory import SHARED_MEMORY, MemoryPlace, default_budget, memory_place
from cluster_agent.data.tiers.moving import Places
from cluster_agent.data.transfer.client import TransferClient
from cluster_agent.data.transfer.readers import Readers
from cluster_agent.data.transfer.server import DataServer
from cluster_agent.membership.renewal import Renewal
from cluster_agent.node import revoked, rows
from cluster_agent.node.bundles import Bundles
from cluster_agent.node.core import NodeCore
from cluster_agent.node.damage import Damages, scrub_status
from cluster_agent.node.data import DataWork
from cluster_agent.node.directory import Directories
from cluster_agent.node.link import AgentLink
from cluster_agent.node.logs import Logs
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.outputs import SharedOutputs
from cluster_agent.node.queries import LogQueries
from cluster_agent.node.sharing import Sharing
from cluster_agent.node.tasks import Tasks, task_key
from cluster_agent.node.tiers import news_of, tiers_of
from cluster_agent.orders.messages import VERSION, Acks, Downward, Frees, Hold, Orders, Window, Work
from cluster_agent.relay.dialling import Routes, relays_of
from cluster_agent.relay.standing import Standing
from cluster_agent.runtimes.base import Room, Runtime
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.process.places import open_places
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from cluster_agent.runtimes.secrets import KeptSecrets
from wire.digests import bytes_digest
from wire.identity import Credentials, Identity, Role, reload, server_name, ssl_client_context, ssl_server_context
from wire.identity.requests import identity_in
from wire.service import allow_many_files

if TYPE_CHECKING:
    import ssl

    from cluster_agent.runtimes.kubernetes.surroundings import KubernetesConfig

_REVOKED = "revoked"
_log = structlog.get_logger(__name__)


class StateInUseError(Exception):
    """Another daemon has this state directory."""


@dataclass(frozen=True)
class NodeConfig:
    """What a node daemon is told. `cpus` may be a fraction; `memory` and `disk` are bytes, 0 = not limited.

    Where workers are pods, `cpus` and `memory` of 0 are what Kubernetes says that the node has.
    """

    cluster: str
    node: str
    state: Path
    agent: str  # host:port of the cluster's agent
    credentials: Credentials
    listen_data: str  # host:port; port 0 = any
    advertise_data: str = ""  # host:port where others find it, where that differs
    plain_port: int = 0  # where to serve it without TLS, as links allow that; 0 = any
    cpus: float = 1.0
    memory: int = 0
    disk: int = 0
    python: str = sys.executable  # interpreter of `python` steps
    # Where small tasks have theirs. None: in shared memory if there is any; on the disk if workers are pods.
    memory_directory: Path | None = None
    # What units may take of that. None: a small part of the node's memory, for what workflows want there; nothing if
    # workers are pods.
    memory_tier: int | None = None
    secrets: Path | None = None  # what the operator keeps for steps; of pods Kubernetes knows
    kubernetes: KubernetesConfig | None = None  # workers are pods
    storage: SharedConfig = field(default_factory=SharedConfig)  # places that it shares with other nodes
    scrub_period: float | None = None  # in so many seconds all that it stores is read again; 0 = never, None: a week
    scrub_most: float = MOST_BYTES  # bytes a second that this reads at most


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
        client = await stack.enter_async_context(TransferClient(context, routes))
        daemon = NodeDaemon(config, runtime, store, client, context, routes)
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


class NodeDaemon:
    """The parts of a daemon, put together. Made by `serve`."""

    def __init__(
        self,
        config: NodeConfig,
        runtime: Runtime,
        store: DiskStore,
        client: TransferClient,
        client_context: ssl.SSLContext,
        routes: Routes,
    ) -> None:
        self._config = config
        self._store = store
        self._incarnation = os.urandom(16)
        self._identity = identity_in(config.credentials)
        self._revocations = revoked.known_in(config.state / _REVOKED)
        self._logs = Logs(config.state / "logs")
        self._places = SharedPlaces(config.storage)
        self._data = DataWork(store, client, self._tell, self._places)
        self._giving = Giving(store, self._places, config.cluster, config.state / "shared")
        self._sharing = Sharing(self._places, self._giving, self._tell)
        self._outputs = SharedOutputs(store, self._giving, self._places, config.cluster, self._tell)
        server_context = ssl_server_context(config.credentials)
        self._contexts = (server_context, client_context)
        self._readers = Readers(config.cluster, config.credentials.ca)
        self._server = DataServer(
            store, self._data.arrivals, server_context, self._readers, self._revocations, config.plain_port
        )
        self._routes = routes
        self._standing = Standing(routes, self._may_call, self._server.let_in)
        self._queries = LogQueries(self._logs, lambda: self._link, config.cluster, config.node)
        self._outbox = Outbox()
        self._link = AgentLink(
            config.agent,
            config.cluster,
            config.credentials,
            hello=self._hello,
            of_tasks=self._outbox.take,
            news=self._news,
            handle=self._handle,
            ordered=self._ordered,
            lost=self._queries.lost,
            generation=self._identity.generation,
            hurried=store.space.is_tight,  # else what a task has written would seem to be free for a moment
        )
        period = PERIOD_SECONDS if config.scrub_period is None else config.scrub_period
        self._scrubber = Scrubber(store, period, config.scrub_most, self._link.nudge)
        self._damages = Damages(self._tell, self._outbox, store.holds)
        store.on_damage = self._damages.found
        self._renewal = Renewal(config.credentials, self._link.certify, self._renewed)
        self._outbox.wake = self._link.wake
        store.on_moved = self._link.nudge
        store.space.listeners.append(self._link.nudge)
        self._bundles = Bundles(config.state / "bundles", self._link.bundle, self._bundles_in_use)
        self._room = runtime.room or Room(config.cpus, config.memory)
        self._tasks = Tasks(
            NodeCore(self._room.cpus, self._room.memory, held=config.kubernetes is not None),
            runtime,
            self._bundles,
            store,
            self._logs,
            self._outbox,
            directories=Directories(config.state / "tasks"),
            nudge=self._link.nudge,
            sharing=self._sharing if self._places else None,
        )
        self.data_address = ""
        self._told = control_plane_pb2.NodeStatus()
        self._change_room(self._room)
        runtime.follow_room(self._change_room)

    async def open(self) -> None:
        """Serve data."""
        host, _, port = self._config.listen_data.rpartition(":")
        bound = await self._server.start(host.strip("[]"), int(port))
        self.data_address = self._config.advertise_data or f"{_reachable(host, self._config.agent)}:{bound}"

    async def run(self, stop: asyncio.Event) -> None:
        """Serve the agent until `stop` is set."""
        tasks = [asyncio.create_task(part) for part in self._parts(stop)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def _parts(self, stop: asyncio.Event) -> list[Coroutine[None, None, object]]:
        return [self._link.run(), self._renewal.run(), self._scrubber.run(), self._store.space.watch(), stop.wait()]

    async def close(self) -> None:
        """Stop all parts, the outermost first."""
        self._scrubber.close()
        await self._queries.close()
        await self._standing.close()
        await self._server.stop()
        await self._tasks.close()
        await self._sharing.close()
        await self._outputs.close()
        await self._data.close()
        await self._giving.close()
        await self._places.close()
        await self._bundles.close()
        await self._link.close()

    def _may_call(self, caller: Identity) -> bool:
        known = caller.role is Role.NODE and self._routes.leads_to(caller.cluster)
        return known and not self._revocations.refusal(caller)

    def _renewed(self) -> None:
        """Our certificate is another: connections from now on show it, to the agent, from and to other nodes."""
        for context in self._contexts:
            reload(context, self._config.credentials)
        self._link.renewed()

    def _bundles_in_use(self) -> set[bytes]:
        return self._tasks.bundles_in_use()

    # -------------------------------------------------------------------------------------------------- the agent

    def _tell(self, message: node_pb2.NodeMessage) -> None:
        self._link.tell(message)

    def _hello(self) -> node_pb2.NodeMessage:
        """All that the coordinator must know to go on with this node; the results that it may not have follow."""
        self._tasks.begin()
        self._damages.begin()
        self._sharing.others_reach(())  # until the coordinator says so
        self._told = self._status()
        hello = node_pb2.NodeHello(
            cluster=self._config.cluster,
            node=self._config.node,
            incarnation=self._incarnation,
            status=self._told,
            # What is done and not acknowledged counts as running: its result comes with the hello or right after it.
            running=[_proto_task(key) for key in (*self._tasks.unfinished(), *self._outbox.keys())],
            units=[_proto_unit(key) for key in self._store.units()],
            data_address=self.data_address,
            server_name=server_name(self._identity),
            fetching=[_proto_unit(key) for key in self._data.wanted()],
            orders_version=VERSION,
            results=len(self._outbox.keys()),
            places=self._places.names(),
            shared=[node_pb2.SharedRun(namespace=run[0], run=run[1]) for run in self._giving.marked()],
        )
        return node_pb2.NodeMessage(hello=hello)

    def _news(self) -> list[node_pb2.NodeMessage]:
        """What is told once a batch, if it has changed."""
        news = self._tasks.news.take()
        status = self._status()
        if _shown(status) != _shown(self._told):
            self._told = status
            news.append(node_pb2.NodeMessage(status=status))
        return news

    def _status(self) -> control_plane_pb2.NodeStatus:
        return control_plane_pb2.NodeStatus(
            name=self._config.node,
            ready=True,
            cpus=self._room.cpus,
            memory=self._room.memory,
            cordoned=self._room.cordoned,
            disk_free=self._store.space.to_be_had(),
            disk_size=self._store.space.size(),
            workers=self._tasks.workers,
            running=self._tasks.running,
            stored_bytes=self._store.stored_bytes,
            pid=os.getpid(),
            data_address=self.data_address,
            tiers=tiers_of(self._store, self._places),
            scrub=scrub_status(self._scrubber.progress),
        )

    def _change_room(self, room: Room) -> None:
        self._room = room
        self._tasks.change_room(room)
        self._link.nudge()

    async def _handle(self, command: node_pb2.NodeCommand) -> None:
        try:
            await self._obey(command)
        except Exception:  # one bad command must not take the node down
            _log.exception("a command failed", command=command.WhichOneof("kind"))

    async def _ordered(self, order: Downward) -> None:
        try:
            match order:
                case Orders():
                    self._tasks.start(order)
                case Acks():
                    self._damages.acked(order.namespace, order.run, order.tasks)
                    self._tasks.ack(order)
                case Frees():
                    keys = [UnitKey(order.namespace, order.run, unit) for unit in order.units]
                    await self._outputs.forget(keys)
                    await self._data.free(keys)
                case Work():
                    self._tasks.learn(order)
                case Hold():
                    self._tasks.hold(order)
                case Window():
                    self._tasks.windows.told(order)
        except Exception:  # as above
            _log.exception("an order failed", order=type(order).__name__)

    async def _obey(self, command: node_pb2.NodeCommand) -> None:
        match command.WhichOneof("kind"):
            case "welcome":
                self._tasks.void_sizes()
                self._data.data_root = Path(command.welcome.data_root)
                self._store.durability = command.welcome.durability or "process"
                revoked.learn(self._config.state / _REVOKED, self._revocations, command.welcome.revocations)
                self._renewal.told(command.welcome.renew_after)
                await self._server.trust(frozenset(command.welcome.trusted))
                self._routes.know({each.cluster: relays_of(each.relays) for each in command.welcome.relayed})
                self._standing.know(self._routes.relays)
            case "members":
                self._readers.told(command.members)
            case "cancel":
                self._tasks.cancel(task_key(command.cancel.key))
            case "fetch":
                (self._outputs.refer if command.fetch.refer else self._data.fetch)(command.fetch)
            case "expect":
                self._data.expect(command.expect)
            case "push":
                self._data.push(command.push)
            case "open":
                self._data.open(command.open, self._tasks.follower(command.open.follow))
            case "adopt":
                await self._data.adopt(command.adopt)
            case "unshare":
                self._outputs.unshare(command.unshare)
            case "shared":
                self._sharing.others_reach(command.shared.places)
            case "keep":
                await self._data.cache.keep(command.keep)
            case "take":
                self._data.take(command.take)
            case "pool":
                self._tasks.size_pool(command.pool)
            case "logs":
                self._queries.read(command.logs)
            case "stop_logs":
                self._queries.stop(command.stop_logs.query)
            case "end_run":
                order = command.end_run
                await self._data.stop_run(order.namespace, order.run)
                await self._outputs.forget_run(order.namespace, order.run, order.keep)
                self._readers.run_ended(order.namespace, order.run)
                await self._tasks.end_run(order.namespace, order.run)
                over = not order.keep_shared
                if over:
                    self._giving.sweep((order.namespace, order.run), others=order.sweep, keep=order.keep)
                await self._data.end_run(order.namespace, order.run, order.keep, order.away, results=over)
                await self._logs.end_run(order.namespace, order.run)
                self._link.nudge()


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(f"{state}: another node daemon is using this directory; give each its own") from None
        yield


def _reachable(host: str, agent: str) -> str:
    """The address that others dial: the one we listen on, or where that is any, the one that the agent sees us by."""
    if host.strip("[]") not in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return host
    agent_host, _, agent_port = agent.rpartition(":")
    try:
        family = socket.getaddrinfo(agent_host.strip("[]"), int(agent_port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family[0], socket.SOCK_DGRAM) as probe:
            probe.connect(family[4])  # chooses a route; sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _owner(state: Path) -> str:
    """A name that no other daemon has."""
    return bytes_digest(bytes(state.resolve()))[:8].hex()


def _shown(status: control_plane_pb2.NodeStatus) -> tuple[object, ...]:
    """What of a status is news when it has changed."""
    room = (status.cpus, status.memory, status.cordoned)
    scrubbed = (int(status.scrub.ended), status.scrub.damaged)
    disk = (coarse(status.disk_free), status.disk_size)
    return (*room, status.workers, status.running, *news_of(status.tiers), *disk, *scrubbed)


def _proto_task(key: tuple[str, str, bytes, int]) -> node_pb2.TaskKey:
    return node_pb2.TaskKey(namespace=key[0], run=key[1], task=key[2], attempt=key[3])


def _proto_unit(key: tuple[str, str, bytes]) -> node_pb2.UnitKey:
    return node_pb2.UnitKey(namespace=key[0], run=key[1], unit=key[2])
