"""`bdw-fed simulate`: exit codes, JSON, and the file that is left of what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bdw_fed.cli.exits import OK, RefusedError, UsageError
from bdw_fed.cli.output import Format
from bdw_fed.cli.verbs.simulate import command
from tests.simulator.planted import planted


def test_each_seed_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(seeds=3, seed=5, jobs=1, output=Format.JSON) == OK
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seed"] for line in lines] == [5, 6, 7]
    assert all(line["ok"] and line["digest"] for line in lines)
    assert last["all"]["trials"] == 3
    assert last["all"]["wrong"] == 0


def test_what_goes_wrong_is_written_and_goes_wrong_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with planted("offer_executed_without_a_grant"):
        with pytest.raises(RefusedError, match="1 of"):
            command(seeds=40, jobs=1, save=tmp_path)
        told = capsys.readouterr().out
        (file,) = tmp_path.iterdir()
        assert f"bdw-fed simulate {file}" in told
        assert "nobody has granted" in told
        with pytest.raises(RefusedError, match="1 of 1"):
            command([file], save=tmp_path)
    assert command([file]) == OK


def test_what_can_not_be_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seeds"):
        command(seeds=-1)
    with pytest.raises(UsageError, match="table or json"):
        command(output=Format.YAML)
    (tmp_path / "it.yaml").write_text("kind: Nothing\n")
    with pytest.raises(UsageError, match="expected a document of kind Scenario"):
        command([tmp_path / "it.yaml"])
