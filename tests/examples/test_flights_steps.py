"""The flights example without a federation: its steps, run by hand on pieces, equal one pass over the data.

The runner below follows the contract of steps and nothing else: Python functions called with keywords, a
command called with its argv. How the tables are cut is the test's choice, so equality here means that the
result does not depend on the cut.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flights"
SAMPLE = Path(__file__).parent / "flights_sample"
AIRPORTS = ("ewr", "jfk", "lga")


def load(path: Path) -> ModuleType:
    """A step's module, as a runtime would load it: by its file, not as part of a package."""
    spec = importlib.util.spec_from_file_location(f"flights_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


clean, join, merge, report = (load(EXAMPLE / "steps" / f"{name}.py") for name in ["clean", "join", "merge", "report"])
onepass = load(EXAMPLE / "onepass.py")


def aggregate(rows: Path, out: dict[str, Path], late_minutes: int) -> None:
    """The command step."""
    program = EXAMPLE / "steps" / "aggregate.awk"
    command = ["awk", "-v", f"late={late_minutes}", "-v", f"out={out['sums']}", "-f", str(program), str(rows)]
    subprocess.run(command, check=True)


def pieces(table: Path, lines: int, target: Path) -> list[Path]:
    """Cut a CSV file every so many rows, the header on each piece."""
    header, *rows = table.read_text().splitlines(keepends=True)
    cut = []
    for start in range(0, len(rows), lines):
        piece = target / f"{table.parent.name}-{start:07}.csv"
        piece.write_text(header + "".join(rows[start : start + lines]))
        cut.append(piece)
    return cut


def run_steps(data: Path, lines: int, work: Path, late_minutes: int = 15) -> tuple[str, str]:
    """The workflow by hand: the report and the chart."""
    parts = []
    for airport in AIRPORTS:
        for piece in pieces(data / f"edge-{airport}" / "flights.csv", lines, work):
            cleaned, joined, summed = (piece.with_suffix(f".{name}") for name in ("clean", "join", "sums"))
            clean.main(rows=piece, out={"rows": cleaned})
            join.main(rows=cleaned, weather=data / f"edge-{airport}" / "weather.csv", out={"rows": joined})
            aggregate(rows=joined, out={"sums": summed}, late_minutes=late_minutes)
            parts.append(summed)
    merge.main(parts=parts, out={"table": work / "merged"})
    out = {"table": work / "report.csv", "chart": work / "report.svg"}
    report.main(sums=work / "merged", late_minutes=late_minutes, out=out)
    return out["table"].read_text(), out["chart"].read_text()


def one_pass(data: Path, late_minutes: int = 15) -> str:
    flights, weather = ([data / f"edge-{a}" / f"{t}.csv" for a in AIRPORTS] for t in ("flights", "weather"))
    text: str = onepass.report(flights, weather, late_minutes)
    return text


@pytest.mark.parametrize("lines", [1, 7, 1000])
def test_steps_on_pieces_equal_one_pass_however_the_table_is_cut(lines: int, tmp_path: Path) -> None:
    table, _ = run_steps(SAMPLE, lines, tmp_path)
    assert table == one_pass(SAMPLE)


def test_the_sample_gives_what_was_worked_out_by_hand(tmp_path: Path) -> None:
    """Edges of bands, an unknown wind, an hour without weather, cancelled flights, ties in rounding."""
    assert run_steps(SAMPLE, 5, tmp_path)[0] == (SAMPLE / "expected.csv").read_text()


def test_the_parameter_moves_what_counts_as_late(tmp_path: Path) -> None:
    table, chart = run_steps(SAMPLE, 5, tmp_path, late_minutes=0)
    assert table == one_pass(SAMPLE, late_minutes=0)
    assert table != one_pass(SAMPLE)
    assert "more than 0 minutes late" in chart


def test_the_chart_is_an_svg_with_a_line_for_each_airport(tmp_path: Path) -> None:
    root = ET.fromstring(run_steps(SAMPLE, 5, tmp_path)[1])
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert len(list(root.iter(f"{space}polyline"))) == len(AIRPORTS)
    assert {"EWR", "JFK", "LGA", "wind speed, mph", "mean departure delay, minutes"} <= set(texts)


def test_the_same_piece_gives_the_same_bytes(tmp_path: Path) -> None:
    """Units are known by their content, so a step that runs again must write the same."""
    rows = tmp_path / "rows.csv"
    rows.write_text("airport,wind_band,dep_delay\nLGA,20+,3\nEWR,0-5,\nLGA,20+,-7\nEWR,5-10,16\n")
    written = []
    for name in ("a", "b"):
        aggregate(rows, {"sums": tmp_path / name}, late_minutes=15)
        written.append((tmp_path / name).read_text())
    assert written[0] == written[1]
    assert written[0].splitlines()[1:] == ["LGA,20+,2,0,-4,0", "EWR,0-5,1,1,0,0", "EWR,5-10,1,0,16,1"]


def test_a_piece_without_rows_and_a_gather_without_parts_are_tables_too(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("airport,wind_band,dep_delay\n")
    aggregate(rows, {"sums": tmp_path / "sums"}, late_minutes=15)
    for parts in ([tmp_path / "sums"], []):
        merge.main(parts=parts, out={"table": tmp_path / "merged"})
        out = {"table": tmp_path / "report.csv", "chart": tmp_path / "report.svg"}
        report.main(sums=tmp_path / "merged", late_minutes=15, out=out)
        assert out["table"].read_text() == onepass.HEADER + "\n"
        ET.fromstring(out["chart"].read_text())


def test_the_first_row_that_states_a_wind_counts(tmp_path: Path) -> None:
    weather = [tmp_path / "1.csv", tmp_path / "2.csv"]
    weather[0].write_text("origin,time_hour,wind_speed\nEWR,h,NA\nEWR,h,12\n")
    weather[1].write_text("origin,time_hour,wind_speed\nEWR,h,3\n")
    rows = tmp_path / "rows.csv"
    rows.write_text("airport,time_hour,dep_delay\nEWR,h,4\n")
    join.main(rows=rows, weather=weather, out={"rows": tmp_path / "out"})
    assert (tmp_path / "out").read_text() == "airport,wind_band,dep_delay\nEWR,10-15,4\n"
    flights = tmp_path / "flights.csv"
    flights.write_text("origin,time_hour,dep_delay\nEWR,h,4\n")
    assert "EWR,10-15,1,0,4.000,0.0000" in onepass.report([flights], weather)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("origin,dep_delay\n", "the header lacks time_hour"),
        ("origin,time_hour,dep_delay\nEWR,h\n", "bad.csv, line 2: expected 3 columns, found 2"),
        (
            "origin,time_hour,dep_delay\nEWR,h,soon\n",
            "bad.csv, line 2: dep_delay must be whole minutes or NA, not 'soon'",
        ),
        ("origin,time_hour,dep_delay\n,h,1\n", "bad.csv, line 2: origin and time_hour must not be empty"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        clean.main(rows=tmp_path / "bad.csv", out={"rows": tmp_path / "out"})


@pytest.mark.parametrize("speed", ["windy", "-1", "nan"])
def test_a_wind_that_is_not_one_is_refused(speed: str) -> None:
    with pytest.raises(ValueError, match=r"weather\.csv, line 3: wind_speed must be"):
        join.band_of(speed, "weather.csv, line 3")


@given(st.integers(-(10**7), 10**7), st.integers(0, 10**6), st.sampled_from([3, 4]))
def test_both_programs_round_alike(part: int, whole: int, digits: int) -> None:
    ratio: Callable[[int, int, int], str] = report.ratio
    assert ratio(part, whole, digits) == onepass.quotient(part, whole, f"{10**-digits:.{digits}f}")


@pytest.mark.slow
def test_steps_equal_one_pass_on_the_real_data(tmp_path: Path) -> None:
    """All 336,776 flights, cut about as the workflow cuts them."""
    done = subprocess.run([sys.executable, str(EXAMPLE / "prepare.py")], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"THE REAL DATA COULD NOT BE HAD, so nothing was compared: {done.stderr[-500:]}")
    table, _ = run_steps(EXAMPLE / "data", 11_000, tmp_path)
    assert table == one_pass(EXAMPLE / "data")
    assert sum(int(row.split(",")[2]) for row in table.splitlines()[1:]) == 336_776
