"""Light tasks, many at a time in a worker that is warm: each ends as it would alone, and no file is made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from tests.fixtures import words
from tests.node.cluster import NAMESPACE, Cluster, command, content, given, order, python, source, wait_until
from tests.node.steps import bundle
from tests.node.test_failures import alive, pid_in_log


async def units(edge: Cluster, count: int) -> list[model_pb2.Unit]:
    """Small units with the numbers from 0."""
    return [await source(edge, f"{number}.txt", str(number).encode()) for number in range(count)]


def task(edge: Cluster, tmp_path: Path, function: str, unit: model_pb2.Unit, **options: Any) -> words.Task:
    execution = python(f"steps:{function}", bundle(edge, tmp_path))
    return order(function, execution, inputs=[given("unit", unit, kind="")], outputs=["unit"], **options)


async def warm(edge: Cluster, tmp_path: Path, function: str, unit: model_pb2.Unit, **options: Any) -> None:
    """Have the node learn that the step's tasks are short and small."""
    first = task(edge, tmp_path, function, unit, attempt=9, **options)
    edge.agent.start(first)
    assert (await edge.agent.result(first.key)).failure is None


async def test_many_tasks_end_in_their_order_with_their_own_outputs(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start(cpus=1.0)
    numbers = await units(edge, 50)
    await warm(edge, tmp_path, "add_one", numbers[0])
    tasks = [task(edge, tmp_path, "add_one", unit) for unit in numbers]
    for each in tasks:
        edge.agent.start(each)
    for number, each in enumerate(tasks):
        result = await edge.agent.result(each.key)
        assert content(node, result.outputs[0].unit) == str(number + 1).encode()
        assert (result.bytes_in, result.bytes_out) == (len(str(number)), len(str(number + 1)))
    assert [result.task for result in edge.agent.results[1:]] == [each.key.task for each in tasks]
    assert not list((node.state / "store" / "content").glob("*/*")), "no file was made of anything small"
    assert not list((node.state / "store" / "units").glob("*/*/*"))


async def test_an_output_that_is_large_after_all_is_taken_and_those_behind_it_go_on(
    edge: Cluster, tmp_path: Path
) -> None:
    node = await edge.start(cpus=1.0)
    numbers = await units(edge, 6)
    await warm(edge, tmp_path, "heavy", numbers[0])
    tasks = [task(edge, tmp_path, "heavy", unit) for unit in numbers]
    for each in tasks:
        edge.agent.start(each)
    sizes = []
    for number, each in enumerate(tasks):
        result = await edge.agent.result(each.key)
        assert result.failure is None
        sizes.append(result.bytes_out)
        assert content(node, result.outputs[0].unit) == str(number).encode() * result.bytes_out
    assert sizes == [1, 1, 1, 30_000, 1, 1]


async def test_a_worker_that_dies_costs_the_task_it_was_at_and_no_other(edge: Cluster, tmp_path: Path) -> None:
    await edge.start(cpus=1.0)
    numbers = await units(edge, 10)
    await warm(edge, tmp_path, "heavy", numbers[0], parameters={"dies_at": "4"})
    tasks = [task(edge, tmp_path, "heavy", unit, parameters={"dies_at": "4"}) for unit in numbers]
    for each in tasks:
        edge.agent.start(each)
    results = [await edge.agent.result(each.key) for each in tasks]
    kinds = [result.failure.kind if result.failure else "" for result in results]
    assert kinds == ["", "", "", "", "lost", "", "", "", "", ""]


async def test_tasks_behind_one_that_hangs_are_executed_and_it_can_be_cancelled(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start(cpus=2.0)
    numbers = await units(edge, 12)
    options = {"waits_at": "5", "gate": str(tmp_path / "no")}
    await warm(edge, tmp_path, "heavy", numbers[0], parameters=options)
    tasks = [task(edge, tmp_path, "heavy", unit, parameters=options) for unit in numbers]
    for each in tasks:
        edge.agent.start(each)
    for each in [*tasks[:5], *tasks[6:]]:
        assert (await edge.agent.result(each.key)).failure is None
    await edge.agent.hear("started", lambda started: started.key == tasks[5].key)
    pid = await pid_in_log(edge, node.state)
    edge.agent.say(cancel=node_pb2.CancelTask(key=tasks[5].key))
    await wait_until(lambda: not alive(pid))
    after = order("after", command("true"), resources=model_pb2.Resources(cpus=2))
    edge.agent.start(after)
    await edge.agent.result(after.key)
    assert tasks[5].key not in [finished.key for finished in edge.agent.all("finished")]


async def test_the_end_of_a_run_kills_what_it_runs_and_forgets_what_waits(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start(cpus=1.0)
    numbers = await units(edge, 8)
    options = {"waits_at": "1", "gate": str(tmp_path / "no")}
    await warm(edge, tmp_path, "heavy", numbers[0], parameters=options)
    for unit in numbers:
        edge.agent.start(task(edge, tmp_path, "heavy", unit, parameters=options))
    pid = await pid_in_log(edge, node.state)
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    await wait_until(lambda: not alive(pid))
    edge.agent.hang_up()
    hello = await edge.agent.hear("hello", after=1)
    assert not hello.running
    assert not hello.units


async def test_what_a_light_task_prints_is_in_its_own_log(edge: Cluster, tmp_path: Path) -> None:
    node = await edge.start(cpus=1.0)
    code = bundle(edge, tmp_path)
    for attempt in (1, 2, 3):
        each = order("pid", python("steps:pid", code), outputs=["pid"], attempt=attempt)
        edge.agent.start(each)
        await edge.agent.result(each.key)
    logs = sorted((node.state / "logs").glob("*/*/*/*.log"))
    assert [path.name.split(".")[1] for path in logs] == ["1", "2", "3"]
    assert all(path.read_bytes().endswith(b"my pid\n") for path in logs)


@pytest.mark.parametrize("limits", [None, model_pb2.Resources(memory=256 << 20)])
async def test_programs_are_light_tasks_too_unless_they_have_limits(
    edge: Cluster, limits: model_pb2.Resources | None
) -> None:
    node = await edge.start(cpus=1.0)
    numbers = await units(edge, 20)
    execution = command("sh", "-c", 'pwd > "$1"; cat "$0" >> "$1"; grep 7 "$0" || true', "{in.unit}", "{out.unit}")

    def program(unit: model_pb2.Unit, attempt: int = 1) -> words.Task:
        inputs = [given("unit", unit, kind="")]
        return order("program", execution, inputs=inputs, outputs=["unit"], attempt=attempt, resources=limits)

    tasks = [program(numbers[0], attempt=9), *map(program, numbers)]
    edge.agent.start(tasks[0])  # of the step's first task it is not known whether what it makes is small
    said = [content(node, (await edge.agent.result(tasks[0].key)).outputs[0].unit).split()]
    for each in tasks[1:]:
        edge.agent.start(each)
    said += [content(node, (await edge.agent.result(each.key)).outputs[0].unit).split() for each in tasks[1:]]
    assert [number for _, number in said] == [b"0", *(b"%d" % number for number in range(20))]
    on_disk = [Path(place.decode()).is_relative_to(node.state / "tasks") for place, _ in said]
    assert on_disk == [True, *([limits is not None] * 20)]
    logs = {path.name.split(".")[0]: path.read_bytes() for path in (node.state / "logs").glob("*/*/*/*.log")}
    assert {task: words[-2:] for task, words in logs.items()} == {
        tasks[8].key.task.hex(): b"7\n",
        tasks[18].key.task.hex(): b"7\n",
    }
