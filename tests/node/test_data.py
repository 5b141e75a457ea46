"""The coordinator's commands about data: sources, fetches, pushes, between two real daemons."""

from __future__ import annotations

import os

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import GoneError
from cluster_agent.data.transfer.client import Source, TransferClient
from tests.node.cluster import CLUSTER, NAMESPACE, Cluster, content, source, unit_key
from wire.digests import source_task_id, unit_id
from wire.identity import Identity, Role, server_name, ssl_client_context
from wire.lines import line_name


async def open_source(edge: Cluster, path: str, index: int = 0) -> node_pb2.SourceOpened:
    command = node_pb2.OpenSource(namespace=NAMESPACE, run="run1", step="inputs.x", index=index, path=path)
    edge.agent.say(open=command)
    return await edge.agent.hear("source", lambda told: told.index == index)  # type: ignore[no-any-return]


async def test_a_directory_is_one_unit_a_file_in_the_order_of_names(edge: Cluster) -> None:
    node = await edge.start()
    for name in ("d/b.csv", "d/a.csv", "d/sub/c.csv", "d/.hidden"):
        (edge.data_root / name).parent.mkdir(parents=True, exist_ok=True)
        (edge.data_root / name).write_text(name)
    opened = await open_source(edge, "d")
    task = source_task_id(NAMESPACE, "run1", "inputs.x", 0)
    assert [unit.unit.name for unit in opened.units] == ["a.csv", "b.csv", "sub/c.csv"]
    assert [unit.unit.id for unit in opened.units] == [unit_id(task, "out", index) for index in range(3)]
    assert [content(node, unit.unit) for unit in opened.units] == [b"d/a.csv", b"d/b.csv", b"d/sub/c.csv"]


async def test_opening_again_tells_the_same(edge: Cluster) -> None:
    await edge.start()
    (edge.data_root / "a").write_text("a")
    first = await open_source(edge, "a")
    edge.agent.say(open=node_pb2.OpenSource(namespace=NAMESPACE, run="run1", step="inputs.x", path="a"))
    assert await edge.agent.hear("source", after=1) == first


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../secret", "not below the data root"),
        ("sub/../../secret", "not below the data root"),
        ("/etc/passwd", "not below the data root"),
        ("escape", "not below the data root"),
        ("dir", "not below the data root"),
        ("missing.csv", "there is no"),
        ("fifo", "not a regular file"),
        ("a\0b", "not a path"),
    ],
)
async def test_no_path_leads_out_of_the_data_root(edge: Cluster, path: str, words: str) -> None:
    await edge.start()
    (edge.data_root.parent / "secret").write_text("secret")
    (edge.data_root / "sub").mkdir()
    (edge.data_root / "escape").symlink_to("../secret")
    (edge.data_root / "dir").mkdir()
    (edge.data_root / "dir" / "link").symlink_to("/etc")
    os.mkfifo(edge.data_root / "fifo")
    opened = await open_source(edge, path)
    assert words in opened.error
    assert not opened.units


async def test_a_link_within_the_data_root_is_followed(edge: Cluster) -> None:
    node = await edge.start()
    (edge.data_root / "real.csv").write_text("real")
    (edge.data_root / "link.csv").symlink_to("real.csv")
    opened = await open_source(edge, "link.csv")
    assert content(node, opened.units[0].unit) == b"real"
    assert opened.units[0].unit.name == "link.csv"


async def test_a_unit_is_fetched_from_another_node(edge: Cluster) -> None:
    first = await edge.start("n1")
    unit = await source(edge, "a.csv", b"rows")
    await first.end()
    first = await edge.start("n1")
    second = await edge.start("n2")
    fetch = node_pb2.FetchUnit(
        key=unit_key(unit),
        unit=unit,
        addresses=[first.address],
        server_name=server_name(Identity(Role.NODE, f"{CLUSTER}/n1")),
    )
    edge.agent.say(fetch=fetch)
    fetched = await edge.agent.hear("fetched")
    assert (fetched.unit, fetched.bytes, fetched.error) == (unit_key(unit), 4, "")
    assert content(second, unit) == b"rows"
    edge.agent.say(fetch=fetch)
    again = await edge.agent.hear("fetched", after=1)
    assert (again.bytes, again.error) == (0, "")


async def test_a_unit_is_pushed_to_a_node_that_expects_it(edge: Cluster) -> None:
    await edge.start("n1")
    unit = await source(edge, "a.csv", b"pushed")
    second = await edge.start("n2")
    push = node_pb2.PushUnit(
        key=unit_key(unit),
        unit=unit,
        address=second.address,
        server_name=server_name(Identity(Role.NODE, f"{CLUSTER}/n2")),
    )
    edge.agent.say("n1", push=push)
    assert "not expected there" in (await edge.agent.hear("pushed")).error
    edge.agent.say("n2", expect=node_pb2.ExpectUnit(key=unit_key(unit), unit=unit, from_cluster=CLUSTER))
    edge.agent.hang_up()
    assert list((await edge.agent.hear("hello", after=2)).fetching) == [unit_key(unit)]
    edge.agent.say("n1", push=push)
    assert (await edge.agent.hear("pushed", after=1)).error == ""
    fetched = await edge.agent.hear("fetched")
    assert (fetched.unit, fetched.bytes, fetched.error) == (unit_key(unit), 6, "")
    assert content(second, unit) == b"pushed"


async def test_a_push_of_what_is_not_here_says_so(edge: Cluster) -> None:
    node = await edge.start()
    unit = model_pb2.Unit(id=b"u" * 16, digest=b"d" * 32, size=1)
    edge.agent.say(push=node_pb2.PushUnit(key=unit_key(unit), unit=unit, address=node.address, server_name="x"))
    assert "is not in the store" in (await edge.agent.hear("pushed")).error


async def test_a_node_sends_without_tls_only_where_the_agent_says_that_the_line_is_trusted(edge: Cluster) -> None:
    node = await edge.start()
    unit = await source(edge, "a.csv", b"rows")
    key = UnitKey(NAMESPACE, "run1", unit.id)
    place = Source(key, node.address, server_name(Identity(Role.NODE, f"{CLUSTER}/n1")))
    client = TransferClient(ssl_client_context(edge.members.credentials(Role.NODE, "cloud/n1")))

    async def offered() -> bool:
        try:
            return bool(await client._in_thread(place, lambda exchange: exchange.ask("POST", "/v1/plain").body(200)))
        except GoneError:
            return False

    async with client:
        assert not await offered()
        for trusted in (["cloud"], []):
            welcome = node_pb2.NodeWelcome(cluster=CLUSTER, data_root=str(edge.data_root), trusted=trusted)
            edge.agent.say(welcome=welcome)
            edge.agent.say(open=node_pb2.OpenSource(namespace=NAMESPACE, run="run1", step="inputs.x", path="a.csv"))
            await edge.agent.hear("source", after=2 - len(trusted))  # the welcome before it is obeyed by then
            assert await offered() == bool(trusted)


async def test_units_of_one_line_of_a_run_become_those_of_another_and_outlive_it(edge: Cluster) -> None:
    node = await edge.start()
    units = [await source(edge, "small", b"small"), await source(edge, "large", b"large" * 10_000)]
    line = line_name("run1", 2)
    gone = b"g" * 16
    adopt = node_pb2.AdoptUnits(namespace=NAMESPACE, from_run="run1", run=line, units=[units[0].id, gone, units[1].id])
    edge.agent.say(adopt=adopt)
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    for count, unit in enumerate([*units, model_pb2.Unit(id=gone, digest=b"d" * 32)]):
        edge.agent.say(fetch=node_pb2.FetchUnit(key=unit_key(unit, line), unit=unit))
        found = await edge.agent.hear("fetched", after=count)
        assert (found.unit, bool(found.error)) == (unit_key(unit, line), unit.id == gone)
    told = await edge.agent.hear("damaged")
    assert (told.run, list(told.units)) == (line, [gone]), "it counts on what it was to have"
    assert [content(node, unit, line) for unit in units] == [b"small", b"large" * 10_000]
    assert not (node.state / "store" / "units" / NAMESPACE / "run1").exists()
