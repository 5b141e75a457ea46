"""Programs in pods are small jobs, too, where the image has an interpreter that can execute them.

What they promise as processes is collected here again, with pods in their place.
"""

# ruff: noqa: F401

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Job
from cluster_agent.runtimes.kubernetes.runtime import KubernetesRuntime
from tests.kubernetes.pods import DEADLINE, PYTHON, SCRATCH, Node
from tests.runtimes.test_process import Said, job
from tests.runtimes.test_small import Heard, Task
from tests.runtimes.test_small_programs import (
    shell,
    start,
    test_a_program_that_found_no_room_in_memory_is_to_be_executed_again,
    test_a_program_that_writes_to_its_input_has_failed,
    test_jobs_behind_a_program_that_takes_long_can_be_taken_back,
    test_what_a_program_leaves_is_gone_before_the_next,
    test_what_each_writes_is_its_own,
)


async def test_many_are_done_in_order_and_nothing_of_them_is_left_in_the_pod(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path
) -> None:
    worker, work = await start(runtime, *shell('cat "$0" "$0" > "$1"'))  # type: ignore[arg-type]
    assert worker.takes_small
    heard = Heard()
    jobs = [Task(work, b"%d." % number, number) for number in range(40)]
    worker.give(jobs, heard)
    await heard.until(40)
    assert [end.job for end in heard.ends] == jobs
    assert [end.outputs for end in heard.ends] == [[b"%d.%d." % (number, number)] for number in range(40)]
    assert len(node.machine.started) == 1
    made = job(tmp_path)
    (tmp_path / "unit").write_text("x")
    own = Job(made.directory, {"unit": tmp_path / "unit"}, {"unit": made.directory / "out" / "unit"}, env=made.env)
    assert (await worker.execute(own, Said())).kind == "", "one with a directory of its own goes in between"
    assert own.outputs["unit"].read_text() == "xx"
    await worker.stop()


@pytest.mark.parametrize("image", ["none", "old", "broken"])
async def test_an_image_without_a_fitting_interpreter_executes_programs_one_by_one(
    node: Node, runtime: KubernetesRuntime, tmp_path: Path, image: str
) -> None:
    name = SCRATCH
    if image != "none":
        name = f"{image}:1"
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "python3").write_text("#!/bin/sh\nexit 1\n" if image == "old" else "no program")
        (folder / "python3").chmod(0o755)
        node.machine.images[name] = {"PATH": str(folder)}
    worker, _ = await start(runtime, "/bin/sh", "-c", "echo here", image=name)  # type: ignore[arg-type]
    assert not worker.takes_small
    said = Said()
    assert (await asyncio.wait_for(worker.execute(job(tmp_path), said), DEADLINE)).kind == ""
    assert said.streams[1] == b"here\n"
    await worker.stop()
