"""Steps that take and return values: to everybody but the function their units are units like any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster_agent.orders.messages import Result
from tests.fixtures import words
from tests.node.cluster import Cluster, content, given, order, python, source
from tests.node.steps import bundle
from wire.digests import bytes_digest


def task(edge: Cluster, tmp_path: Path, function: str, unit: words.Given, form: str, **options: Any) -> words.Task:
    """A task whose input is JSON to its function."""
    made = order(
        function, python(f"steps:{function}", bundle(edge, tmp_path)), inputs=[unit], outputs=["sum:json"], **options
    )
    made.start.inputs[0].form = "json"
    made.start.outputs[0].form = form
    return made


async def done(edge: Cluster, task: words.Task) -> Result:
    edge.agent.start(task)
    result = await edge.agent.result(task.key)
    assert result.failure is None, result.failure
    return result


async def test_a_returned_value_is_a_unit_whichever_way_its_task_goes(edge: Cluster, tmp_path: Path) -> None:
    """The first task of a step goes through a directory, those after it to the worker many at a time."""
    node = await edge.start(cpus=1.0)
    number = given("unit", await source(edge, "41.json", b"41\n"), kind="json")
    for attempt in (1, 2, 3):
        result = await done(edge, task(edge, tmp_path, "plus", number, "text", attempt=attempt))
        [made] = result.outputs
        assert content(node, made.unit) == b"42"
        assert (made.unit.digest, made.unit.size, made.unit.name) == (bytes_digest(b"42"), 2, "sum.json")
        assert (made.port, result.bytes_in, result.bytes_out) == ("sum", 3, 2)


async def test_large_values_come_and_go(edge: Cluster, tmp_path: Path) -> None:
    """Beyond what travels to a worker; also where the step's former tasks were small."""
    node = await edge.start(cpus=1.0)
    small, large = [
        given("unit", await source(edge, f"{len(text)}.json", text), kind="json")
        for text in (b"1", b" " * 100_000 + b"1")
    ]
    for attempt, (unit, wide) in enumerate([(small, 1), (small, 1), (small, 200_000), (large, 30_000), (small, 1)], 1):
        parameters = {"wide": wide}
        result = await done(edge, task(edge, tmp_path, "plus", unit, "text", attempt=attempt, parameters=parameters))
        [made] = result.outputs
        assert content(node, made.unit) == b"2" * wide
        assert (made.unit.digest, made.unit.name) == (bytes_digest(b"2" * wide), "sum.json")


async def test_gathered_units_are_a_list_of_values(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start()
    units = [await source(edge, f"{number}.json", str(number).encode()) for number in (1, 2, 3)]
    result = await done(edge, task(edge, tmp_path, "total", given("units", *units, many=True, kind="json"), "json"))
    assert content(node, result.outputs[0].unit) == b"6"


async def test_a_unit_that_is_no_such_value_fails_its_task_and_is_the_steps_fault(
    edge: Cluster, tmp_path: Path
) -> None:
    await edge.start()
    bad = given("unit", await source(edge, "bad.json", b"{"), kind="json")
    for attempt in (1, 2):
        failing = task(edge, tmp_path, "plus", bad, "text", attempt=attempt)
        edge.agent.start(failing)
        failure = (await edge.agent.result(failing.key)).failure
        assert failure is not None
        assert failure.kind == "exception", "not data, which would be brought again and again"
        assert failure.message.startswith("input unit can't be read as JSON: Expecting property name")
