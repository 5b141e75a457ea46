"""What an author says of a service's process comes back to the process, though all in between count its slots."""

from __future__ import annotations

from pathlib import Path

from cluster_agent.node.recipe import worker_spec
from cluster_agent.node.works import pool_spec
from cluster_agent.runtimes.base import Service, Watching, WorkerSpec
from control_plane.planner.execution import execution, of_a_slot
from workflow.load import load
from workflow.model import Step


def made(run: str, rest: str = "") -> WorkerSpec:
    """The worker of a step, by way of the plan and the coordinator's orders."""
    [document] = load(
        f'kind: Step\nmetadata: {{name: s, version: "1"}}\nspec:\n  run: {run}\n  inputs: {{rows: {{}}}}\n{rest}'
    ).documents
    assert isinstance(document.model, Step)
    spec = document.model.spec
    told = execution(spec.run, b"", spec.resources)
    resources, _ = of_a_slot(spec.run, spec.resources, spec.pool)
    pool = pool_spec(document.model.reference, told, resources)
    return worker_spec(pool, told, resources.disk, Path("/bundle"))


def test_a_service_has_what_its_author_says_and_each_slot_its_part() -> None:
    rest = "  resources: {cpus: 3, memory: 10GiB, disk: 1MiB}"
    told = made("{service: [serve], slots: 3, protocol: proto, warm_up: 5m, health: 0s, env: {A: b}}", rest)
    assert (told.cpus, told.memory) == (3, 10 << 30), "to the byte, whatever it is cut into"
    assert told.disk == 0, "it is what each task may write"
    assert told.service == Service(3, "proto", 300.0, 0.0)
    assert (told.argv, told.env, told.function) == (("serve",), (("A", "b"),), "")


def test_the_pool_of_a_service_is_counted_in_slots() -> None:
    [document] = load(
        'kind: Step\nmetadata: {name: s, version: "1"}\nspec:\n  run: {service: [serve], slots: 4}\n'
        "  resources: {cpus: 2}\n  pool: {min: 1, max: 3}\n"
    ).documents
    assert isinstance(document.model, Step)
    spec = document.model.spec
    resources, pool = of_a_slot(spec.run, spec.resources, spec.pool)
    assert (pool.min, pool.max, pool.step) == (4, 12, 0)
    assert resources.cpus == 0.5


def test_a_directory_settles_in_two_polls_unless_it_says_otherwise() -> None:
    run = '{directory: [watch], arguments: ["x"], poll: 500ms, code: /opt/code}'
    assert made(run).watching == Watching(("x",), "/opt/code", 0.5, 1.0, False)
    run = "{directory: [watch], poll: 500ms, settle: 3s, done: written}"
    assert made(run).watching == Watching((), "", 0.5, 3.0, True)


def test_functions_and_commands_are_what_they_were() -> None:
    assert made('{python: "m:f"}').function == "m:f"
    told = made("{command: [cat, x]}", "  resources: {disk: 1MiB}")
    assert (told.argv, told.disk, told.service, told.watching) == (("cat", "x"), 1 << 20, None, None)
