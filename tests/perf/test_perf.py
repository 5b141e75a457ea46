"""`bdw-fed perf` measures what it says on a real federation; how much that is, is no test's business."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bdw_fed.cli.__main__ import run
from bdw_fed.perf import CASES, Case, PerfError, Result, Series, Target, sockets
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
    ("case", "size"),
    [("chain", 4), ("fanout", 20), ("command", 10), ("dispatch", 3), ("pipeline", 9), ("split", 20), ("transfer", 2)],
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


class Broken(Case):
    """Can't be measured."""

    name = "broken"
    size = 7
    counts = "nothings"

    def measure(self, settings: Settings) -> Result:
        raise PerfError(f"size {settings.size} is broken")


class Quick(Case):
    """Takes no time."""

    name = "quick"
    size = 5
    counts = "nothings"

    def measure(self, settings: Settings) -> Result:
        main = Series("a nothing", "from here to here", [1.0, 3.0], [Target(1.5)])
        other = Series("another", "too", [2.0], [Target(1.5, of_floor=True)], floor=[2.0])
        return Result(self.name, settings.size, settings.durability, 0.0, main, [other])


@pytest.fixture
def own_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bdw_fed.perf.CASES", {"quick": Quick(), "broken": Broken()})


@pytest.mark.usefixtures("own_cases")
def test_several_cases_are_summed_up_and_one_that_fails_is_told_in_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "quick", "broken:8", "quick:9"]) == 1
    said = capsys.readouterr()
    assert "broken could not be measured: size 8 is broken" in said.err
    assert "1 of 3 cases could not be measured: broken" in said.err
    summary = [line.split() for line in said.out.splitlines() if line.startswith("quick ")]
    assert [(line[1], line[-2]) for line in summary] == [("5", "no"), ("5", "yes"), ("9", "no"), ("9", "yes")]
    assert run(["perf", "quick:9", "quick", "--size", "6", "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["size"], second["size"]) == (9, 6)
    assert (first["target"], first["reached"], first["others"]["another"]["reached"]) == ("≤ 1.5 ms", False, True)


@pytest.mark.usefixtures("own_cases")
def test_a_size_that_is_none_is_told_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "quick", "quick:many"]) == 2
    assert "for example quick:5" in capsys.readouterr().err


def test_a_target_may_be_of_the_floor_or_of_the_slowest_samples() -> None:
    series = Series("a step", "", [1.0] * 98 + [30.0] * 2, [Target(1), Target(30, part=0.99)])
    assert series.target == "≤ 1 ms, P99 ≤ 30 ms"
    assert series.reached
    assert not Series("a step", "", series.samples, [Target(1), Target(29, part=0.99)]).reached
    assert Series("a step", "", [3.0], [Target(1.5, of_floor=True)], floor=[2.0]).reached
    assert Series("a step", "", [3.0]).reached is None


def test_a_percentile_is_a_sample() -> None:
    series = Series("a step", "", [float(number) for number in range(1, 101)])
    assert (series.percentile(0.5), series.percentile(0.99), series.percentile(1.0)) == (50.0, 99.0, 100.0)
    assert Series("a step", "", [4.0], floor=[1.0, 2.0, 3.0]).ratio == 2.0
