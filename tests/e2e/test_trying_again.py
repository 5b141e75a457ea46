"""A run that has failed is tried again, and what was done stays done."""

from __future__ import annotations

from pathlib import Path

from federation import HERE, Federation


def test_a_failed_run_is_tried_again_from_what_had_failed(federation: Federation, tmp_path: Path) -> None:
    federation.apply(HERE / "retried" / "workflow.yaml")
    run = federation.submit("retried")
    federation.call("wait", run, expect=(1,))
    federation.call("retry", run, "--wait")
    assert federation.outputs(run, tmp_path) == {"seed.txt": "7\n"}
    events = federation.call("events", run)
    assert "task.recalled" in events, "the first step is not executed again"
    described = federation.describe(run)["run"]
    assert (described["tries"], described["planRevision"]) == (1, "2")
    again = federation.call("resubmit", run, "-o", "name").strip().removeprefix("run/")
    federation.call("wait", again, expect=(1,))
