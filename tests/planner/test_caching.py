"""What a cached result depends on: the plan's part of its key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.authored import Definition
from control_plane.planner.core import plan
from tests.planner.conftest import Case
from workflow.flow.hooks import hooked

TEXT = """
kind: Topology
metadata: {name: two}
spec:
  zones: [{name: a, tier: edge}, {name: b, tier: cloud}]
  clusters:
    - {name: edge, zone: a, nodes: [{name: n1, cpus: 2}]}
    - {name: cloud, zone: b, nodes: [{name: n1, cpus: 2}]}
  links: [{between: [a, b], bandwidth: 100Mbit}]
  datasets:
    - {name: rows, parts: [{at: edge, path: r.csv, size: 8MiB}]}
    - {name: more, parts: [{at: edge, path: m.csv, size: 8MiB}]}
---
kind: Step
metadata: {name: work, version: "1"}
spec:
  run: {command: [cp, "{in.row}", "{out.row}"], image: "base:1", bundle: ./code}
  parameters: {least: {type: integer, default: 1}}
  inputs: {row: {format: csv}}
  outputs: {row: {format: csv}}
  cache: {age: 7d}
---
kind: Workflow
metadata: {name: w}
spec:
  inputs: {rows: {dataset: rows}, more: {dataset: more}}
  outputs: {row: first.row}
  steps:
    - {name: first, use: work@1, in: {row: {from: inputs.rows, split: {size: 1MiB}}}}
"""


def caching(case: Case, *, fresh: bool = False, step: str = "first") -> m.Caching:
    found = plan(replace(case.request(), fresh=fresh)).steps
    return next(each for each in found if each.name == step).cache


def key(text: str, case: Callable[[str], Case]) -> bytes:
    return caching(case(text)).key


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('name: work, version: "1"', 'name: work, version: "2"'),
        ("use: work@1", "parameters: {least: 2}, use: work@1"),
        ("base:1", "base:2"),
        ("[cp,", "[mv,"),
        ("outputs: {row: {format: csv}}\n  cache", "outputs: {row: {format: jsonl}}\n  cache"),
        ("row: {from: inputs.rows, split: {size: 1MiB}}", "row: {from: inputs.rows, gather: all}"),
        ("use: work@1", 'cache: {key: "prices of May"}, use: work@1'),
    ],
    ids=["version", "parameter", "image", "command", "output", "all at once", "own word"],
)
def test_another_content_is_another_key(before: str, after: str, case: Callable[[str], Case]) -> None:
    changed = TEXT.replace(before, after)
    if "version" in before:
        changed = changed.replace("work@1", "work@2")
    assert changed != TEXT
    assert key(changed, case) != key(TEXT, case)


def test_another_bundle_is_another_key(case: Callable[[str], Case]) -> None:
    one = case(TEXT)
    other = replace(
        one, definitions={name: Definition(each.step, b"\2" * 32) for name, each in one.definitions.items()}
    )
    assert caching(one).key != caching(other).key


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("split: {size: 1MiB}", "split: {size: 2MiB}"),
        ("from: inputs.rows, split", "from: inputs.more, split"),
        ("use: work@1", "resources: {cpus: 2}, use: work@1"),
        ("use: work@1", "place: {tier: cloud}, pool: {max: 3}, timeout: 1h, retry: {attempts: 9}, use: work@1"),
        ("use: work@1", "cache: {age: 1h}, use: work@1"),
    ],
    ids=["cut otherwise", "from elsewhere", "resources", "what moves it", "age"],
)
def test_what_only_moves_the_work_or_is_told_by_contents_leaves_the_key(
    before: str, after: str, case: Callable[[str], Case]
) -> None:
    changed = TEXT.replace(before, after)
    assert changed != TEXT
    assert key(changed, case) == key(TEXT, case)


def test_a_use_has_another_name_and_the_same_key(case: Callable[[str], Case]) -> None:
    renamed = TEXT.replace("name: first", "name: other").replace("first.row", "other.row")
    assert caching(case(renamed), step="other").key == key(TEXT, case)


@pytest.mark.parametrize(
    ("use", "enabled", "age"),
    [
        ("", True, 7 * 86_400),
        ("cache: true, ", True, 7 * 86_400),
        ("cache: {age: 1h}, ", True, 3_600),
        ("cache: false, ", False, 0),
    ],
)
def test_the_workflows_words_lie_over_the_steps(
    use: str, enabled: bool, age: float, case: Callable[[str], Case]
) -> None:
    found = caching(case(TEXT.replace("use: work@1", f"{use}use: work@1")))
    assert (bool(found.key), found.age) == (enabled, age)


def test_a_step_is_not_cached_unless_somebody_says_so(case: Callable[[str], Case]) -> None:
    without = TEXT.replace("  cache: {age: 7d}\n", "")
    assert not caching(case(without)).key
    assert caching(case(without.replace("use: work@1", "cache: true, use: work@1"))).key


def test_of_a_run_that_takes_nothing_from_the_caches_the_key_is_the_same(case: Callable[[str], Case]) -> None:
    usual, fresh = caching(case(TEXT)), caching(case(TEXT), fresh=True)
    assert (usual.fresh, fresh.fresh) == (False, True)
    assert usual.key == fresh.key


def test_a_hook_is_executed_for_what_it_does_whatever_its_step_says(case: Callable[[str], Case]) -> None:
    lone = TEXT.replace("  inputs: {row: {format: csv}}\n", "").replace("{in.row}", "x")
    hooks = lone.replace(
        "  steps:\n    - {name: first, use: work@1, in: {row: {from: inputs.rows, split: {size: 1MiB}}}}",
        "  steps:\n    - {name: first, use: work@1}\n  hooks: {exit: {use: work@1}}",
    )
    usual = case(hooks)
    assert caching(usual).key
    assert not caching(replace(usual, workflow=hooked(usual.workflow, "exit", {})), step="exit").key
