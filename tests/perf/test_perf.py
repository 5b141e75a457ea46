"""`bdw-fed perf` measures what it says on a real federation; how much that is, is no test's business."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bdw_fed.cli.__main__ import run
from bdw_fed.perf import CASES, PerfError, Series, sockets
from bdw_fed.perf import floor as floors
from bdw_fed.perf.base import Settings


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a case makes lies here, and must be gone in the end."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "size"), [("chain", 4), ("fanout", 20), ("command", 10), ("dispatch", 3), ("pipeline", 9), ("transfer", 2)]
)
def test_a_case_prints_what_the_peers_benchmark_reads(
    case: str, size: int, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["perf", case, "--json", "--size", str(size), "--repetitions", "2"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["case"], said["size"], said["durability"]) == (case, size, "process")
    assert len(said["samples_ms"]) == (2 * size if case == "dispatch" else 2)
    assert all(sample > 0 for sample in said["samples_ms"] + said["floor_ms"])
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_start_tells_both_of_its_times_to_people(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "start", "--repetitions", "1"]) == 0
    shown = capsys.readouterr().out
    assert "ready" in shown
    assert "first task" in shown
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ["chain", "fanout", "command", "fsync", "pipeline"])
def test_a_floor_gives_a_sample_for_each_repetition(name: str, tmp_path: Path) -> None:
    samples = floors.measured(name, 10, 3, tmp_path)
    assert len(samples) == 3
    assert all(sample > 0 for sample in samples)


@pytest.mark.parametrize("name", ["tls", "plain", "stores"])
def test_a_floor_between_two_processes_gives_a_sample_for_each_repetition(name: str, tmp_path: Path) -> None:
    samples = floors.measured(name, 2, 3, tmp_path, module=sockets.MODULE)
    assert len(samples) == 3
    assert all(sample > 0 for sample in samples)


def test_generated_rows_have_the_size_that_was_asked_for_and_no_two_parts_are_alike(tmp_path: Path) -> None:
    floors.write_csv(tmp_path / "rows.csv", 4)
    written = (tmp_path / "rows.csv").read_bytes()
    assert 3.9 * (1 << 20) < len(written) <= 4.1 * (1 << 20)
    parts = [written[start : start + (1 << 20)] for start in range(0, 3 << 20, 1 << 20)]
    assert len(set(parts)) == 3
    assert {line.count(b",") for line in written.splitlines()} == {9}


def test_what_can_t_be_measured_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "frobnicate"]) == 2
    assert "chain, fanout" in capsys.readouterr().err
    with pytest.raises(PerfError, match="--size takes"):
        CASES["chain"].checked(Settings(100_000, 5))


def test_a_percentile_is_a_sample() -> None:
    series = Series("a step", "", [float(number) for number in range(1, 101)])
    assert (series.percentile(0.5), series.percentile(0.99), series.percentile(1.0)) == (50.0, 99.0, 100.0)
    assert Series("a step", "", [4.0], floor=[1.0, 2.0, 3.0]).ratio == 2.0
