"""A stream's first message says how the node is at one moment: what it holds, and the results that made it so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.node.link import AgentLink
from cluster_agent.orders.messages import Downward, Result, Results, Upward, decode_upward
from tests.node.cluster import CLUSTER, Members
from wire.identity import Role


class Call:
    """A stream that takes what is written, and ends when there are two messages."""

    def __init__(self) -> None:
        self.written: list[node_pb2.AttachRequest] = []
        self.enough = asyncio.Event()

    async def write(self, request: node_pb2.AttachRequest) -> None:
        self.written.append(request)
        if len(self.written) == 2:
            self.enough.set()

    async def __aiter__(self) -> AsyncIterator[node_pb2.AttachResponse]:
        await asyncio.wait_for(self.enough.wait(), 20)
        for response in ():
            yield response

    def cancel(self) -> None:
        return


async def test_what_ends_after_the_hello_is_not_told_with_it(tmp_path: Path, monkeypatch: Any) -> None:
    """Else the agent takes units that the hello does not list for lost."""
    loop = asyncio.get_running_loop()
    said: list[Upward] = [Results("default", "run1", (Result(b"before", 1),))]

    def later() -> None:
        said.append(Results("default", "run1", (Result(b"after", 1),)))
        link.wake()

    def hello() -> node_pb2.NodeMessage:
        loop.call_soon(later)
        return node_pb2.NodeMessage(hello=node_pb2.NodeHello(results=1))

    def of_tasks() -> list[Upward]:
        taken, said[:] = list(said), []
        return taken

    link = _link(tmp_path, hello, of_tasks, list)
    told = await _told(link, monkeypatch)
    assert told[0].messages[0].HasField("hello")
    results = [[what.results[0].task for what in decode_upward(each.results)] for each in told]  # type: ignore[union-attr]
    assert results == [[b"before"], [b"after"]]


async def test_how_full_a_tight_disk_is_is_told_before_the_results_that_made_it_so(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Else the agent takes for free what they have filled."""
    said: list[Upward] = []

    def hello() -> node_pb2.NodeMessage:
        asyncio.get_running_loop().call_soon(end_one)
        return node_pb2.NodeMessage(hello=node_pb2.NodeHello())

    def end_one() -> None:
        said.append(Results("default", "run1", (Result(b"one", 1),)))
        link.wake()

    def of_tasks() -> list[Upward]:
        taken, said[:] = list(said), []
        return taken

    def news() -> list[node_pb2.NodeMessage]:
        return [node_pb2.NodeMessage(status=control_plane_pb2.NodeStatus(disk_free=7))] if said else []

    link = _link(tmp_path, hello, of_tasks, news, hurried=lambda: True)
    told = await _told(link, monkeypatch)
    assert told[1].messages[0].status.disk_free == 7
    assert decode_upward(told[1].results)


def _link(
    tmp_path: Path, hello: Any, of_tasks: Any, news: Any, hurried: Callable[[], bool] = lambda: False
) -> AgentLink:
    async def ignored(_: node_pb2.NodeCommand | Downward) -> None:
        return

    credentials = Members(tmp_path).credentials(Role.NODE, f"{CLUSTER}/n1")
    return AgentLink(
        "127.0.0.1:1",
        CLUSTER,
        credentials,
        hello,
        of_tasks,
        news,
        handle=ignored,
        ordered=ignored,
        lost=lambda: None,
        hurried=hurried,
    )


async def _told(link: AgentLink, monkeypatch: Any) -> list[node_pb2.AttachRequest]:
    """What the link writes first: two requests."""
    call = Call()
    monkeypatch.setattr(link, "_stub", type("Stub", (), {"Attach": lambda _: call})())
    running = asyncio.create_task(link.run())
    await asyncio.wait_for(call.enough.wait(), 20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await link.close()
    return call.written[:2]
