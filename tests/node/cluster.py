"""A stand-in for the agent, over real gRPC with real certificates, and node daemons to attach to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bdw_fed.v1 import control_plane_pb2, model_pb2, node_pb2
from bdw_fed.v1.node_pb2_grpc import NodeServiceServicer, add_NodeServiceServicer_to_server
from cluster_agent.data.base import UnitKey
from cluster_agent.data.journal import Journal
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.service import serve
from cluster_agent.orders.messages import Downward, Order, Result, UnitInfo, decode_upward, encode
from tests.fixtures import words
from wire.digests import bytes_digest, source_task_id, task_id, unit_id
from wire.identity import Credentials, Identity, Role, grpc_server_credentials, server_options
from wire.identity.authority import Authority
from workflow.bundle import pack

CLUSTER = "edge1"
NAMESPACE = "default"
DEADLINE = 20.0


class Members:
    """An authority and the credentials that it has issued."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = Authority.create(directory / "ca")

    def credentials(self, role: Role, name: str) -> Credentials:
        directory = self._directory / role / name.replace("/", "-")
        if directory.exists():
            return Credentials.load(directory)
        return self._authority.issue(Identity(role, name), directory)


class FakeAgent(NodeServiceServicer):
    """Remembers what a node says and says what a test wants. `heard`, (kind, message) of each, grows over all streams.

    `repeated`: for each hello, the tasks whose results came with it; these are not in `heard`. `results` are all.
    """

    def __init__(self, data_root: Path, durability: str) -> None:
        self.welcome = node_pb2.NodeWelcome(cluster=CLUSTER, data_root=str(data_root), durability=durability)
        self.heard: list[tuple[str, Any]] = []
        self.repeated: list[list[node_pb2.TaskKey]] = []
        self.results: list[Result] = []
        self.speaker = words.Speaker()
        self.bundles: dict[bytes, bytes] = {}
        self.bundle_requests = 0
        self.acknowledges = True
        self._changed = asyncio.Condition()
        self._out: asyncio.Queue[node_pb2.AttachResponse | None] = asyncio.Queue()
        self._outs: dict[str, asyncio.Queue[node_pb2.AttachResponse | None]] = {}

    async def Attach(self, request_iterator: Any, context: Any) -> Any:  # type: ignore[override]
        self._out = out = asyncio.Queue()
        self.speaker = words.Speaker()
        self.say(welcome=self.welcome)
        reading = asyncio.create_task(self._read(request_iterator))
        try:
            while (response := await out.get()) is not None:
                await context.write(response)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def FetchBundle(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        self.bundle_requests += 1
        archive = self.bundles.get(request.digest)
        if archive is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
        yield node_pb2.FetchBundleResponse(chunk=archive)

    async def _read(self, requests: Any) -> None:
        out = self._out
        async for request in requests:
            told = list(words.told(decode_upward(request.results) if request.results else []))
            results = [one.result for one in told if one.result is not None]
            if request.messages and request.messages[0].HasField("hello"):
                self._outs[request.messages[0].hello.node] = out
                self.repeated.append([one.key for one in told if one.result is not None])
                told = [one for one in told if one.result is None]
            async with self._changed:
                for message in request.messages:
                    kind = message.WhichOneof("kind") or ""
                    self.heard.append((kind, getattr(message, kind)))
                self.heard += [(one.kind, one) for one in told]
                self.results += results
                self._changed.notify_all()
            if self.acknowledges:
                self.order(words.acks(one.key for one in told if one.result is not None))

    def say(self, node: str = "", **command: Any) -> None:
        """Tell a node something; by default the one that has attached last."""
        response = node_pb2.AttachResponse(commands=[node_pb2.NodeCommand(**command)])
        (self._outs[node] if node else self._out).put_nowait(response)

    def start(self, task: words.Task) -> None:
        """Have a task executed."""
        self.order(self.speaker.start(task))

    def order(self, said: list[Downward], node: str = "") -> None:
        """Say something of tasks."""
        if said:
            (self._outs[node] if node else self._out).put_nowait(node_pb2.AttachResponse(orders=encode(said)))

    def hang_up(self) -> None:
        self._out.put_nowait(None)

    def add_bundle(self, directory: Path) -> bytes:
        archive = pack(directory)
        digest = bytes_digest(archive)
        self.bundles[digest] = archive
        return digest

    def all(self, kind: str) -> list[Any]:
        return [message for said, message in self.heard if said == kind]

    async def hear(self, kind: str, wanted: Callable[[Any], bool] = lambda _: True, *, after: int = 0) -> Any:
        """The first message of the kind that is wanted, said already or yet to come."""

        def found() -> list[Any]:
            return [message for message in self.all(kind)[after:] if wanted(message)]

        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(found)
        return found()[0]

    async def result(self, key: node_pb2.TaskKey) -> Result:
        """How a task ended."""
        return (await self.hear("finished", lambda finished: finished.key == key)).result  # type: ignore[no-any-return]


@dataclass
class Node:
    """A node daemon in this process."""

    config: NodeConfig
    address: str
    stop: asyncio.Event
    task: asyncio.Task[None]

    @property
    def state(self) -> Path:
        return self.config.state

    async def end(self) -> None:
        self.stop.set()
        await self.task


@dataclass
class Cluster:
    """A fake agent that listens, and the nodes that a test starts; `options` are those of all nodes."""

    members: Members
    agent: FakeAgent
    address: str
    directory: Path
    data_root: Path
    nodes: list[Node] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def config(self, name: str = "n1", **options: Any) -> NodeConfig:
        return NodeConfig(
            cluster=CLUSTER,
            node=name,
            state=self.directory / name,
            agent=self.address,
            credentials=self.members.credentials(Role.NODE, f"{CLUSTER}/{name}"),
            **{
                "listen_data": "127.0.0.1:0",
                "cpus": 2.0,
                "memory": 2 << 30,
                "memory_tier": 0,
                **self.options,
                **options,
            },
        )

    async def start(self, name: str = "n1", **options: Any) -> Node:
        """Start a node daemon; returns when it has said hello."""
        config = self.config(name, **options)
        stop = asyncio.Event()
        ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        hellos = len(self.agent.all("hello"))
        task = asyncio.create_task(serve(config, ready.set_result, stop))
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE)
        if task.done():
            await task
        node = Node(config, (await ready)["data"], stop, task)
        self.nodes.append(node)
        await self.agent.hear("hello", after=hellos)
        return node


@contextlib.asynccontextmanager
async def cluster(directory: Path, *, durability: str = "process") -> AsyncIterator[Cluster]:
    """A cluster without nodes yet."""
    data_root = directory / "data"
    data_root.mkdir()
    members = Members(directory / "members")
    agent = FakeAgent(data_root, durability)
    server = grpc.aio.server(options=server_options())
    add_NodeServiceServicer_to_server(agent, server)
    credentials = members.credentials(Role.AGENT, CLUSTER)
    port = server.add_secure_port("127.0.0.1:0", grpc_server_credentials(credentials))
    await server.start()
    made = Cluster(members, agent, f"127.0.0.1:{port}", directory, data_root)
    try:
        yield made
    finally:
        for node in made.nodes:
            if not node.task.done():
                await node.end()
        await server.stop(0)


def python(function: str, bundle: bytes = b"") -> model_pb2.Execution:
    return model_pb2.Execution(python=model_pb2.Execution.Python(function=function), bundle=bundle)


def command(*argv: str, bundle: bytes = b"", env: dict[str, str] | None = None) -> model_pb2.Execution:
    return model_pb2.Execution(command=model_pb2.Execution.Command(argv=argv, env=env or {}), bundle=bundle)


def splitter(**split: Any) -> model_pb2.Execution:
    return model_pb2.Execution(split=model_pb2.Execution.Splitter(split=model_pb2.Split(**split)))


def merger(form: str, name: str = "") -> model_pb2.Execution:
    return model_pb2.Execution(merge=model_pb2.Execution.Merger(format=form, name=name))


def order(
    step: str,
    execution: model_pb2.Execution,
    *,
    run: str = "run1",
    inputs: Iterable[words.Given] = (),
    outputs: Iterable[str] = (),
    parameters: dict[str, Any] | None = None,
    attempt: int = 1,
    number: int = 0,
    timeout: float = 0.0,
    resources: model_pb2.Resources | None = None,
    parts: int = 0,
    store: str = "",
) -> words.Task:
    """A task. `outputs` are ports, "name:format", optional ones with a "?" at the end; `store` is said of all."""
    told = list(inputs)
    ids = [(port.port, [unit.id for unit in port.units]) for port in told]
    task = task_id(NAMESPACE, run, step, [*ids, (str(number), [])])
    start = node_pb2.StartTask(
        key=node_pb2.TaskKey(namespace=NAMESPACE, run=run),
        step=step,
        definition=f"{step}@1",
        execution=execution,
        inputs=[port.of for port in told],
        outputs=[
            model_pb2.OutputPort(
                name=port.rstrip("?").partition(":")[0],
                format=port.rstrip("?").partition(":")[2],
                optional=port.endswith("?"),
                store=store,
            )
            for port in outputs
        ],
        parameters_json=json.dumps(parameters or {}),
        resources=resources or model_pb2.Resources(cpus=1),
        timeout=timeout,
    )
    return words.Task(start, Order(task, attempt, tuple(port.units for port in told), parts))


def given(port: str, *units: model_pb2.Unit | UnitInfo, many: bool = False, kind: str = "csv") -> words.Given:
    return words.Given(node_pb2.TaskInput(port=port, format=kind, many=many), tuple(map(words.info, units)))


async def source(made: Cluster, name: str, content: bytes, *, run: str = "run1", index: int = 0) -> model_pb2.Unit:
    """Put a file into the data root and have the node open it."""
    path = made.data_root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    step = f"inputs.{name}"
    made.agent.say(open=node_pb2.OpenSource(namespace=NAMESPACE, run=run, step=step, index=index, path=name))
    opened = await made.agent.hear("source", lambda told: told.run == run and told.step == step)
    assert opened.error == ""
    assert opened.units[0].unit.id == unit_id(source_task_id(NAMESPACE, run, step, index), "out", 0)
    return opened.units[0].unit  # type: ignore[no-any-return]


def content(node: Node, unit: model_pb2.Unit | UnitInfo, run: str = "run1") -> bytes:
    """A unit's bytes in a node's store."""
    large = node.state / "store" / "units" / NAMESPACE / run / unit.id.hex()
    if large.exists():
        return large.read_bytes()
    with tempfile.TemporaryDirectory() as copy:  # of what the daemon is still writing
        journal = Journal(Path(shutil.copytree(node.state / "store" / "journal", Path(copy) / "journal")))
        small = dict(journal.units()).get(UnitKey(NAMESPACE, run, unit.id))
        journal.close()
    if small is None or small.data is None:
        raise FileNotFoundError(unit.id.hex())
    return small.data


def logs_request(run: str = "run1", *, task: bytes = b"", follow: bool = False) -> control_plane_pb2.LogsRequest:
    return control_plane_pb2.LogsRequest(namespace=NAMESPACE, run=run, task=task, follow=follow)


def unit_key(unit: model_pb2.Unit | UnitInfo, run: str = "run1") -> node_pb2.UnitKey:
    return node_pb2.UnitKey(namespace=NAMESPACE, run=run, unit=unit.id)


async def wait_until(true: Callable[[], bool]) -> None:
    """Return when something is so that no event tells of, within the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not true():  # noqa: ASYNC110 - of files and processes nobody tells
            await asyncio.sleep(0.01)
