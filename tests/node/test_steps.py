"""Real steps on a real daemon: what goes in, what comes out, and how failures are told."""

from __future__ import annotations

from pathlib import Path

from bdw_fed.v1 import model_pb2
from tests.node.cluster import Cluster, command, content, given, order, python, source, splitter
from tests.node.steps import bundle
from wire.digests import unit_id


async def test_a_python_step_reads_its_input_and_its_output_becomes_a_unit(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    unit = await source(edge, "a.csv", b"x,y\n")
    task = order(
        "upper",
        python("steps:upper", bundle(edge, tmp_path)),
        inputs=[given("rows", unit)],
        outputs=["rows:csv"],
        parameters={"times": 2},
    )
    edge.agent.start(task)
    result = await edge.agent.result(task.key)
    assert result.failure is None, result.failure
    made = result.outputs[0]
    assert (made.port, made.index, made.unit.name) == ("rows", 0, "rows.csv")
    assert made.unit.id == unit_id(task.key.task, "rows", 0)
    assert content(node, made.unit) == b"X,Y\nX,Y\n"
    assert (result.bytes_in, result.bytes_out) == (4, 8)


async def test_a_command_gets_its_words_and_a_chain_of_steps_works(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    units = [await source(edge, f"{name}.csv", name.encode(), index=0) for name in ("a", "b")]
    first = order(
        "cat",
        command("sh", "-c", 'cat "$@" > {out.all}; echo {param.word} >> {out.all}', "-", "{in.parts}"),
        inputs=[given("parts", *units, many=True)],
        outputs=["all"],
        parameters={"word": "end"},
    )
    edge.agent.start(first)
    result = await edge.agent.result(first.key)
    assert result.failure is None, result.failure
    assert content(node, result.outputs[0].unit) == b"abend\n"


async def test_a_failing_function_is_told_with_its_own_words(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    task = order("fail", python("steps:fail", bundle(edge, tmp_path)))
    edge.agent.start(task)
    failure = (await edge.agent.result(task.key)).failure
    assert (failure.kind, failure.message) == ("exception", "ValueError: no such airport: ‘XYZ’")
    assert 'raise ValueError("no such airport' in failure.detail
    assert "process/worker/" not in failure.detail


async def test_a_split_tells_its_parts_as_they_come(edge: Cluster) -> None:
    node = await edge.start()
    lines = [f"{number},{'x' * (number % 7)}\n" for number in range(1000)]
    unit = await source(edge, "flights.csv", ("id,x\n" + "".join(lines)).encode())
    task = order(
        "rows.split",
        splitter(size=1000, header=True),
        inputs=[given("in", unit)],
        outputs=["out"],
        resources=model_pb2.Resources(),
    )
    edge.agent.start(task)
    result = await edge.agent.result(task.key)
    assert result.failure is None, result.failure
    told = [output for produced in edge.agent.all("produced") for output in produced.outputs]
    assert list(result.outputs) == told
    parts = [content(node, made.unit).decode() for made in result.outputs]
    assert all(part.startswith("id,x\n") and len(part) <= 1000 for part in parts)
    assert "".join(part.removeprefix("id,x\n") for part in parts) == "".join(lines)
    assert result.outputs[3].unit.name == "flights-00003.csv"
