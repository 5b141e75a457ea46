"""What the daemon executes itself: it cuts units and puts them together, and says what is wrong with a file."""

from __future__ import annotations

import gzip
import os

import msgspec
import pytest

from cluster_agent.orders.messages import Frees, Window
from tests.fixtures import words
from tests.node.cluster import Cluster, Node, content, given, merger, order, source, splitter

TABLE = b'id,text\n1,"a\nb"\n2,c\n3,"d, ""e"""\n'


def stored(node: Node, run: str = "run1") -> int:
    """Files of tasks that are left in the node's directories."""
    return sum(1 for _ in (node.state / "tasks" / run).glob("*"))


async def test_parts_are_named_after_the_file_as_it_is_inside(edge: Cluster) -> None:
    node = await edge.start()
    unit = await source(edge, "table.csv.gz", gzip.compress(TABLE))
    split = order("s", splitter(records=1, header=True), inputs=[given("in", unit, kind="csv.gz")], outputs=["out:csv"])
    edge.agent.start(split)
    made = [made.unit for made in (await edge.agent.result(split.key)).outputs]
    assert [unit.name for unit in made] == ["table-00000.csv", "table-00001.csv", "table-00002.csv"]
    assert [content(node, unit) for unit in made] == [
        b'id,text\n1,"a\nb"\n',
        b"id,text\n2,c\n",
        b'id,text\n3,"d, ""e"""\n',
    ]
    merge = order("m", merger("csv", "all.csv"), inputs=[given("in", *made, many=True)], outputs=["out:csv"])
    edge.agent.start(merge)
    (whole,) = (await edge.agent.result(merge.key)).outputs
    assert (content(node, whole.unit), whole.unit.name) == (TABLE, "all.csv")


async def test_a_split_per_slot_makes_the_parts_that_it_was_told(edge: Cluster) -> None:
    await edge.start()
    unit = await source(edge, "numbers.txt", b"".join(b"%d\n" % number for number in range(100)))
    for attempt, parts in ((1, 3), (2, 3), (3, 0)):
        split = order("s", splitter(per_slot=True), inputs=[given("in", unit)], attempt=attempt, parts=parts)
        edge.agent.start(split)
        assert len((await edge.agent.result(split.key)).outputs) == (parts or 1)


async def test_units_are_merged_in_the_order_in_which_they_are_given(edge: Cluster) -> None:
    node = await edge.start()
    units = [await source(edge, f"{name}.txt", name.encode() * 10_000) for name in "cab"]
    merge = order("m", merger("concat"), inputs=[given("in", *units, many=True, kind="")], outputs=["out"])
    edge.agent.start(merge)
    (whole,) = (await edge.agent.result(merge.key)).outputs
    assert (content(node, whole.unit), whole.unit.name) == (b"c" * 10_000 + b"a" * 10_000 + b"b" * 10_000, "out.txt")
    nothing = order("m", merger("jsonl"), inputs=[given("in", many=True)], outputs=["out:jsonl"], number=1)
    edge.agent.start(nothing)
    (empty,) = (await edge.agent.result(nothing.key)).outputs
    assert (content(node, empty.unit), empty.unit.name) == (b"", "out")
    assert stored(node) == 0


@pytest.mark.parametrize(
    ("name", "data", "split", "words"),
    [
        ("a.csv.gz", gzip.compress(TABLE * 100, mtime=0)[:-20], {"records": 1}, "a.csv.gz: at byte "),
        ("a.csv", b'a,"b\n', {"size": 100}, "a.csv: at byte 2: a field is quoted from here on and never closed"),
        ("a.parquet", b"id,text\n1,a\n", {"records": 5}, "a.parquet: at byte 0: not a Parquet file"),
        ("a.parquet", TABLE, {"lines": 5}, "a.parquet: it is split as parquet, which has no lines; write records"),
        ("a.jsonl", b"{}\n", {"size": 5, "header": True}, "split as jsonl, which has no line that is a header"),
        ("a.bin", b"\0\1", {"records": 5, "format": "bytes"}, "split as bytes, which has no records"),
        ("a.tar", b"no archive" * 100, {"members": True, "format": "tar"}, "a.tar: at byte 0: not a header of a tar"),
    ],
)
async def test_a_file_that_is_not_what_it_is_read_as_fails_with_its_name(
    edge: Cluster, name: str, data: bytes, split: dict[str, object], words: str
) -> None:
    node = await edge.start()
    unit = await source(edge, name, data)
    kind = name.partition(".")[2]
    task = order("s", splitter(**split), inputs=[given("in", unit, kind=kind)], outputs=["out"])
    edge.agent.start(task)
    failure = (await edge.agent.result(task.key)).failure
    assert failure is not None
    assert failure.kind == "content", failure
    assert words in failure.message
    assert stored(node) == 0


async def test_units_that_do_not_fit_together_fail_the_merge_and_name_the_one(edge: Cluster) -> None:
    await edge.start()
    units = [await source(edge, "a.csv", b"id,x\n1,2\n"), await source(edge, "b.csv", b"id,y\n1,2\n")]
    merge = order("m", merger("csv"), inputs=[given("in", *units, many=True)], outputs=["out"])
    edge.agent.start(merge)
    failure = (await edge.agent.result(merge.key)).failure
    assert failure is not None
    assert failure.kind == "content"
    assert failure.message.startswith("unit 2 (b.csv): its header is 'id,y', and that of the first is 'id,x'; make all")


async def test_a_unit_that_the_disk_has_damaged_is_not_taken_for_a_wrong_file(edge: Cluster) -> None:
    """Its bytes are made again, so the task is tried again."""
    node = await edge.start()
    unit = await source(edge, "a.csv", b'id,text\n1,"quoted"\n' * 5000)
    split = order("s", splitter(count=1), inputs=[given("in", unit)], outputs=["out:csv"])
    edge.agent.start(split)
    (made,) = (await edge.agent.result(split.key)).outputs
    (file,) = (node.state / "store" / "content").glob(f"*/{made.unit.digest.hex()}")
    before = file.stat()
    with file.open("r+b") as damaged:
        damaged.write(b'"')
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    task = order("again", splitter(count=1), inputs=[given("in", made.unit)], outputs=["out"])
    edge.agent.start(task)
    failure = (await edge.agent.result(task.key)).failure
    assert failure is not None
    assert failure.kind == "data", failure


async def test_a_split_waits_in_the_middle_while_its_disk_is_short_and_goes_on_as_parts_go(
    edge: Cluster,
) -> None:
    """The file is several times as large as the store: whoever reads the parts frees them."""
    await edge.start(disk=200_000)
    unit = await source(edge, "large.bin", os.urandom(1_000_000))
    task = order("s", splitter(size=50_000, format="bytes"), inputs=[given("in", unit, kind="")], outputs=["out"])
    split = words.Task(task.start, msgspec.structs.replace(task.order, leave=60_000))
    edge.agent.start(split)
    freed = heard = 0
    while freed < 20:
        produced = await edge.agent.hear("produced", after=heard)
        heard += 1
        freed += len(produced.outputs)
        edge.agent.order([Frees("default", "run1", tuple(output.unit.id for output in produced.outputs))])
    result = await edge.agent.result(split.key)
    assert result.failure is None
    assert len(result.outputs) == freed == 20
    fullest = max(status.stored_bytes for status in edge.agent.all("status"))
    assert fullest <= 150_000, "what must be left was left"


async def test_a_split_has_no_more_in_the_store_than_its_window_and_goes_on_as_parts_go_or_it_is_told_more(
    edge: Cluster,
) -> None:
    node = await edge.start()
    unit = await source(edge, "large.bin", os.urandom(1_000_000))
    task = order("s", splitter(size=50_000, format="bytes"), inputs=[given("in", unit, kind="")], outputs=["out"])
    split = words.Task(task.start, msgspec.structs.replace(task.order, most=120_000))
    edge.agent.start(split)
    made: list[bytes] = []
    heard = 0

    async def hear(until: int) -> None:
        nonlocal heard
        while len(made) < until:
            produced = await edge.agent.hear("produced", after=heard)
            heard += 1
            made.extend(output.unit.id for output in produced.outputs)

    await hear(2)
    assert len(made) == 2, "a third part would be too much"
    for count in range(3, 11):
        edge.agent.order([Frees("default", "run1", (made[count - 3],))])
        await hear(count)
        assert len(made) == count, "each that goes makes room for one"
    edge.agent.order([Window("default", "run1", split.key.task, 1, 0)])
    result = await edge.agent.result(split.key)
    assert [output.unit.id for output in result.outputs[:10]] == made[:10]
    assert len(result.outputs) == 20
    assert (
        b"".join([content(node, output.unit) for output in result.outputs[8:]])
        == (edge.data_root / "large.bin").read_bytes()[400_000:]
    )


async def test_a_part_that_is_larger_than_its_window_enters_alone(edge: Cluster) -> None:
    await edge.start()
    unit = await source(edge, "large.bin", os.urandom(150_000))
    task = order("s", splitter(size=50_000, format="bytes"), inputs=[given("in", unit, kind="")], outputs=["out"])
    split = words.Task(task.start, msgspec.structs.replace(task.order, most=1))
    edge.agent.start(split)
    for heard in range(3):
        (output,) = (await edge.agent.hear("produced", after=heard)).outputs
        edge.agent.order([Frees("default", "run1", (output.unit.id,))])
    assert len((await edge.agent.result(split.key)).outputs) == 3
