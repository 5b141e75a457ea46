"""What the command line prints, word for word: help, tables, JSON, problems. `BDW_FED_GOLDEN=write` writes it anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from fake_hub import FakeHub

from bdw_fed.cli.__main__ import run
from bdw_fed.cli.verbs import MODULES

GOLDEN = Path(__file__).parent / "golden"

ANSWERS: dict[str, tuple[list[str], int]] = {
    "apply": (["apply", "-f", "good.yaml"], 0),
    "apply-problems": (["apply", "-f", "good.yaml", "-f", "bad.yaml"], 2),
    "apply-names": (["apply", "-f", "good.yaml", "-o", "name"], 0),
    "apply-nothing": (["apply", "-f", "empty.yaml"], 2),
    "apply-missing": (["apply", "-f", "missing.yaml"], 2),
    "audit": (["audit", "--limit", "2"], 0),
    "audit-refused": (["audit", "--refused", "-o", "wide"], 0),
    "audit-json": (["audit", "--refused", "-o", "json"], 0),
    "audit-since-nothing": (["audit", "--since", "yesterday"], 2),
    "audit-limit": (["audit", "--limit", "0"], 2),
    "cache": (["cache", "ls"], 0),
    "cache-of-a-step": (["cache", "ls", "score", "--cluster", "edge-jfk", "-o", "json"], 0),
    "cache-of-none": (["cache", "ls", "nothing", "-o", "name"], 0),
    "cache-cleared": (["cache", "clear", "clean-flights", "--cluster", "edge-jfk"], 0),
    "cache-cleared-by-age": (["cache", "clear", "--age", "7d"], 4),
    "cache-cleared-by-nothing": (["cache", "clear"], 2),
    "cache-cleared-by-too-much": (["cache", "clear", "--all", "--age", "7d"], 2),
    "cache-cleared-by-no-age": (["cache", "clear", "--age", "old"], 2),
    "cancel": (["cancel", "delays-x7k2p", "--reason", "enough"], 0),
    "clusters": (["get", "clusters"], 0),
    "clusters-wide": (["get", "clusters", "-o", "wide"], 0),
    "cluster-described": (["describe", "cluster", "edge-jfk"], 0),
    "cluster-unknown": (["describe", "cluster", "nowhere"], 3),
    "cordon": (["cordon", "edge-jfk"], 0),
    "cordon-nowhere": (["cordon", "nowhere"], 3),
    "uncordon": (["uncordon", "edge-jfk"], 0),
    "drain": (["drain", "edge-jfk", "--deadline", "10m"], 0),
    "drain-deadline": (["drain", "edge-jfk", "--deadline", "soon"], 2),
    "taint": (["taint", "edge-jfk", "shared=true:PreferNoSchedule", "broken:NoExecute"], 0),
    "taint-gone": (["taint", "edge-jfk", "broken-"], 0),
    "taint-wrong": (["taint", "edge-jfk", "broken:Never"], 2),
    "taint-half": (["taint", "edge-jfk", "broken"], 2),
    "delete": (["delete", "workflow/delays"], 0),
    "delete-busy": (["delete", "run", "busy"], 5),
    "diff": (["diff", "-f", "changed.yaml"], 1),
    "diff-same": (["diff", "-f", "good.yaml"], 0),
    "events": (["events", "delays-x7k2p"], 0),
    "explain": (["explain", "delays-x7k2p"], 0),
    "explain-reserving": (["explain", "reserving"], 0),
    "explain-wide": (["explain", "delays", "-o", "wide"], 0),
    "explain-nothing": (["explain", "nothing"], 3),
    "kind-unknown": (["get", "frobs"], 2),
    "logs": (["logs", "delays-x7k2p"], 0),
    "outputs": (["outputs", "delays-x7k2p"], 0),
    "pools": (["get", "pools"], 0),
    "pools-unknown": (["get", "pools", "nothing@1"], 3),
    "quotas": (["get", "quotas"], 0),
    "quota-described": (["describe", "quota", "both"], 0),
    "quota-yaml": (["get", "quota", "both", "-o", "yaml"], 0),
    "resubmit": (["resubmit", "delays-x7k2p", "-p", "late_minutes=60"], 0),
    "resume": (["resume", "delays-x7k2p"], 0),
    "retry": (["retry", "delays-x7k2p"], 0),
    "run-described": (["describe", "run", "delays-x7k2p"], 0),
    "run-queued-described": (["describe", "run", "queued"], 0),
    "run-holding-described": (["describe", "run", "holding"], 0),
    "run-failed-described": (["describe", "run", "failed"], 0),
    "runs": (["get", "runs"], 0),
    "runs-wide": (["get", "runs", "-o", "wide"], 0),
    "runs-names": (["get", "runs", "-o", "name"], 0),
    "status": (["status"], 1),
    "submit": (["submit", "delays", "-p", "late_minutes=30"], 0),
    "submit-dry-run": (["submit", "delays", "--dry-run"], 0),
    "submit-nothing": (["submit", "nothing"], 3),
    "submit-bad-parameter": (["submit", "delays", "-p", "late"], 2),
    "suspend": (["suspend", "delays-x7k2p"], 0),
    "token-created": (["token", "create", "--cluster", "edge-jfk", "--needs-acceptance"], 0),
    "token-bad-life": (["token", "create", "--cluster", "edge-jfk", "--ttl", "soon"], 2),
    "token-deleted": (["token", "delete", "0f3c9a51d2"], 0),
    "token-unknown": (["token", "delete", "ffffffffff"], 3),
    "tokens": (["token", "list"], 0),
    "tokens-wide": (["token", "list", "-o", "wide"], 0),
    "cluster-accepted": (["cluster", "accept", "edge-lga"], 0),
    "cluster-accepts-nobody": (["cluster", "accept", "edge-jfk"], 5),
    "cluster-revoked": (["cluster", "revoke", "edge-jfk"], 0),
    "node-revoked": (["node", "revoke", "edge-jfk/n1"], 0),
    "node-revoked-unknown": (["node", "revoke", "edge-jfk/n7"], 0),
    "node-revoked-nobody": (["node", "revoke", "edge-jfk"], 2),
    "join-without-token": (["agent", "join", "hub:7442", "--ca-hash", "x"], 2),
    "join-wrong-hash": (["agent", "join", "hub:7442", "--ca-hash", "x", "--token", "t"], 1),
    "unknown-option": (["get", "runs", "--frob"], 2),
    "user-grant": (["user", "grant", "eve", "--role", "expert", "-n", "flights"], 0),
    "user-list": (["user", "list"], 0),
    "user-revoke": (["user", "revoke", "eve"], 0),
    "user-revoke-nobody": (["user", "revoke", "nobody"], 3),
    "wait": (["wait", "delays-x7k2p"], 0),
    "workflow-described": (["describe", "workflow", "delays"], 0),
    "workflows": (["get", "workflows"], 0),
    "workflows-wide": (["get", "workflows", "-o", "wide"], 0),
    "workflow-yaml": (["get", "workflow", "counts", "-o", "yaml"], 0),
}


def check(name: str, text: str) -> None:
    """Compare with what is kept, or keep it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("BDW_FED_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; BDW_FED_GOLDEN=write takes the new form"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.yaml").write_text("kind: Workflow\nmetadata: {name: delays}\n")
    (tmp_path / "bad.yaml").write_text("# one\nkind: Workflow\n---\nkind: Workflow\nspec:\n  use: frobnicate@1\n")
    (tmp_path / "changed.yaml").write_text("kind: Workflow\nmetadata: {name: changed}\n")
    (tmp_path / "empty.yaml").write_text("# nothing\n---\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ANSWERS)
def test_answer(name: str, hub: FakeHub, files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words, code = ANSWERS[name]
    assert run(words) == code
    out, err = capsys.readouterr()
    text = f"$ bdw-fed {' '.join(words)}\n{out}"
    if err:
        text += f"--- standard error\n{err}"
    text = re.sub(re.escape(hub.address), "HUB", text)
    check(name, f"{text}--- exit code {code}\n")


@pytest.mark.parametrize("verb", sorted(MODULES))
def test_help(verb: str, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "--help"]) == 0
    check(f"help-{verb.replace(' ', '-')}", capsys.readouterr().out)


def test_help_of_all(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    check("help", capsys.readouterr().out)


def test_json_is_the_contract_s_own(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "run", "delays-x7k2p", "-o", "json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["run"]["state"] == "RUN_STATE_SUCCEEDED"
    assert described["run"]["fragments"]["cloud"]["traffic"][0]["fromCluster"] == "edge-jfk"
    assert run(["explain", "delays-x7k2p", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["workflow"] == "delays"
