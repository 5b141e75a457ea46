"""No name of a request reaches out of its place: not into a path, not into another's key, not into a line of a log."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.access.people import SERVICE, answer_to
from tests.data.network import Network, key
from tests.hub.agent import FakeAgent
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import ALL
from wire.identity import Identity, Role, server_name, ssl_client_context

EVIL = ["../../../etc/passwd", "..", "/", "a/b", "a\0b", "\0", "A", "a\nb", "x" * 5000, "%2e%2e%2f", "ünïcode", "-a"]
SAID_NO = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
# Free text, or nothing that is looked for: any value may be fine.
NO_NAMES = {"reason", "idempotency_key", "parameters_json", "page_token", "step"}


def with_evil(method: str) -> list[tuple[str, Any]]:
    """A call's requests, each with one name in it that is none. The other names are good ones."""
    described = SERVICE.methods_by_name[method].input_type
    texts = [
        field.name
        for field in described.fields
        if field.type == FieldDescriptor.TYPE_STRING
        and not field.is_repeated
        and field.name not in NO_NAMES
        and (method, field.name) not in (("Logs", "cluster"), ("ReadAudit", "user"))
    ]
    good = {"kind": "Workflow", "name": "counting", "run": "r", "workflow": "counting", "topology": "pair"}
    good |= {"namespace": "default", "subject": "eve", "cluster": "edge"}
    requests = []
    for field, evil in itertools.product(texts, EVIL):
        values = {name: good[name] for name in texts if name in good} | {field: evil}
        if method == "Explain":
            values.pop("workflow" if field == "run" else "run")
        requests.append((field, GetMessageClass(described)(**values)))
    return requests


async def test_a_name_that_is_none_is_refused_by_every_call(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    await apply(person, ALL)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_dir())
    for method in SERVICE.methods:
        for field, request in with_evil(method.name):
            if method.name == "Watch" and field == "name":
                continue  # nothing of that name ever happens, and that is what is waited for
            if method.name == "GrantRole" and not request.role:
                request.role = 1
            code, words = await answer_to(person, method.name, request)
            assert code in SAID_NO, (method.name, field, request, code, words)
            assert len(words) < 1000
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_dir()) == before
    assert (await answer_to(person, "Get", cp.GetRequest(kind="Workflow", name="counting")))[0] is grpc.StatusCode.OK


@pytest.mark.parametrize("evil", EVIL)
async def test_an_agent_that_names_evil_runs_changes_nothing_and_goes_on(hub: RunningHub, evil: str) -> None:
    async with FakeAgent(hub, "edge") as edge:
        for name in ({"namespace": evil, "run": "r"}, {"namespace": "default", "run": evil}):
            await edge.say(accepted=name)
        await edge.say(accepted={"namespace": "default", "run": "r"})
        await edge.acked()
        assert edge.ended is None


@pytest.mark.parametrize(
    "evil", ["..%2f..%2f..%2fetc%2fpasswd", "..", "%00", "a%00b", "%2e%2e", "a%0d%0ab", "x" * 5000]
)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_nor_does_a_path_at_a_node(network: Network, evil: str, place: int) -> None:
    import asyncio

    there = await network.peer("cloud/n1")
    await there.put(b"secret")
    parts = ["default", "run1", key().unit.hex()]
    parts[place] = evil
    host, _, port = there.address.rpartition(":")
    name = server_name(Identity(Role.NODE, there.name))
    context = ssl_client_context(network.credentials(Role.NODE, "cloud/n2"))
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    for method in ("GET", "HEAD", "PUT"):
        writer.write(f"{method} /v1/{'/'.join(parts)} HTTP/1.1\r\nContent-Range: bytes 0-0/1\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.split(b" ")[1] == b"404", (method, answer)
        if method == "GET" and (length := int(answer.lower().partition(b"content-length: ")[2].split(b"\r")[0])):
            assert b"secret" not in await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
