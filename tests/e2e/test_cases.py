"""Whole runs, from files to outputs: each directory under `cases` is a workflow and what must come of it.

`expect.yaml` says the run's state and, where they matter, its outputs ("?" stands for any text), the tasks done by
step, the failed attempts by step, the failure that ends it, and what its logs hold.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from federation import CASES, Federation


def by_step(described: dict[str, Any], counter: str) -> dict[str, int]:
    """A counter of the run's steps, added up over the clusters."""
    sums: dict[str, int] = {}
    for fragment in described["run"].get("fragments", {}).values():
        for step in fragment.get("steps", []):
            sums[step["step"]] = sums.get(step["step"], 0) + int(step.get(counter, 0))
    return sums


def check_outputs(expected: dict[str, str], got: dict[str, str]) -> None:
    assert set(got) == set(expected)
    for name, text in expected.items():
        pattern = ".+".join(re.escape(part) for part in text.split("?"))
        assert re.fullmatch(pattern, got[name], re.DOTALL), f"{name}: {got[name]!r} is not {text!r}"


def check_failure(expected: dict[str, Any], described: dict[str, Any]) -> None:
    """What ended the run is the newest failure of a fragment that failed.

    Other clusters have failures of their own, as of a worker that was lost and tried again, and stand in no order.
    """
    fragments = described["run"]["fragments"].values()
    failed = [fragment for fragment in fragments if fragment["state"] == "FRAGMENT_STATE_FAILED"]
    ends = [fragment["failures"][-1] for fragment in failed if fragment.get("failures")]
    assert ends, f"the run says nothing of why: {described['run'].get('message')}"
    for last in ends:
        assert last.get("step") == expected["step"], ends
        assert last["kind"] == expected["kind"], last
        assert int(last.get("attempt", 0)) == expected.get("attempt", int(last.get("attempt", 0))), last
        assert str(expected["message"]) in last["message"], last
        assert expected.get("detail", "") in last.get("detail", ""), last
    assert expected["step"] in described["run"]["message"], "the run's own message names the step"


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_case(federation: Federation, case: str, tmp_path: Path) -> None:
    expected = yaml.safe_load((CASES / case / "expect.yaml").read_text())
    federation.apply(CASES / case / "workflow.yaml")
    described = federation.run(case)
    run = described["run"]
    assert run["state"] == f"RUN_STATE_{expected['state'].upper()}", run.get("message")
    if "outputs" in expected:
        check_outputs(expected["outputs"], federation.outputs(run["name"], tmp_path))
    for step, count in expected.get("tasks", {}).items():
        assert count == "?" or by_step(described, "done")[step] == count
    for step, count in expected.get("attempts_failed", {}).items():
        assert by_step(described, "failed")[step] == count
    if "failure" in expected:
        check_failure(expected["failure"], described)
    if "logs" in expected:
        logs = federation.call("logs", run["name"])
        assert len(logs) <= expected["logs"]["at_most_bytes"]
        for words in expected["logs"]["contains"]:
            assert words in logs
