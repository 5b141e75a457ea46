"""Each kind's project works as it is made, and a trial says what is wrong with one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bdw_fed.cli.__main__ import run
from bdw_fed.cli.exits import CONFLICT, NEGATIVE, OK, USAGE
from bdw_fed.steps.sample import difference
from workflow.model import KINDS


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    made = tmp_path / "keep-lines"
    kind = getattr(request, "param", "python")
    assert run(["step", "init", "keep-lines", "--kind", kind, "--to", str(made)]) == OK
    return made


def tried(project: Path, *words: str) -> int:
    return run(["step", "test", str(project), *words])


def change(project: Path, file: str, before: str, after: str) -> None:
    text = (project / file).read_text()
    assert before in text
    (project / file).write_text(text.replace(before, after))


@pytest.mark.parametrize("project", KINDS, indirect=True)
def test_a_project_of_each_kind_does_with_its_sample_what_is_expected(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tried(project) == OK
    said = capfd.readouterr().out
    assert "as expected" in said
    assert said.endswith("keep-lines@1 did what is expected\n")
    assert (project / "out" / "lines.txt").read_text() == "the quick brown fox\nover the lazy dog\n"
    assert tried(project, "-p", "min_length=4") == NEGATIVE
    assert "line 2: expected 'over the lazy dog', made 'jumps'" in capfd.readouterr().out
    assert (project / "sample" / "in" / "lines.txt").read_text().startswith("the quick")


@pytest.mark.slow
def test_a_projects_own_test_runs_and_would_fail(project: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(project / "tests")]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    assert subprocess.run(command, env=env, cwd=project, capture_output=True, check=False).returncode == 0
    change(project, "code/main.py", ">=", "<")
    failed = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "differs from what is expected" in failed.stdout


def test_nothing_that_is_there_is_overwritten(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "code" / "main.py").write_text("mine")
    assert run(["step", "init", "keep-lines", "--to", str(project)]) == CONFLICT
    assert (project / "code" / "main.py").read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["Keep Lines"], "'Keep Lines' is not a name"),
        (["keep", "--kind", "java"], "'java' is not a kind of step; expected python, command, service, directory"),
    ],
)
def test_what_can_be_no_project_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    assert run(["step", "init", *words, "--to", str(tmp_path / "new")]) == USAGE
    assert why in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_step_that_fails_says_so_in_its_own_words(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change(
        project, "code/main.py", '    """Keep', '    print("hello")\n    raise ValueError("no such thing")\n    """Keep'
    )
    assert tried(project) == NEGATIVE
    said = capfd.readouterr().out
    assert said.startswith("hello\nkeep-lines@1 failed (exception): ValueError: no such thing\n")
    change(project, "step.yaml", "main:main", "nowhere:main")
    assert tried(project) == NEGATIVE
    assert "failed (start): nowhere:main: there is no module nowhere" in capfd.readouterr().out


def test_an_input_that_is_written_to_is_found_and_the_sample_is_safe(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sample = project / "sample" / "in" / "lines.txt"
    sample.write_bytes(b"a long line of text\n" * 5000)
    before = sample.read_bytes()
    change(project, "code/main.py", '    """Keep', '    lines.chmod(0o600); lines.open("a").write("x")\n    """Keep')
    assert tried(project) == NEGATIVE
    assert "the step wrote to its input lines" in capfd.readouterr().out
    assert sample.read_bytes() == before


def test_many_units_are_a_directory_on_either_side(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "code" / "main.py").write_text(
        "def main(lines, min_length, out):\n"
        "    out['lines'].mkdir()\n"
        "    for path in lines:\n"
        "        (out['lines'] / path.name).write_text(path.read_text().upper())\n"
    )
    for side, text in (("in", "{}\n"), ("expected", "{}\n".upper())):
        (project / "sample" / side / "lines.txt").unlink()
        (project / "sample" / side / "lines").mkdir()
        for name in ("a", "b"):
            written = text.format(name if side == "in" else name.upper())
            (project / "sample" / side / "lines" / f"{name}.txt").write_text(written)
    assert tried(project) == OK
    assert [path.name for path in sorted((project / "out" / "lines").iterdir())] == ["00000.txt", "00001.txt"]
    (project / "sample" / "expected" / "lines" / "b.txt").unlink()
    assert tried(project) == NEGATIVE
    assert "expected 1 unit, made 2 units" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("file", "before", "after", "words", "why"),
    [
        ("step.yaml", "lines: {format: txt}", "lines: {format: 5}", [], "step.yaml:6: spec.inputs.lines.format"),
        ("step.yaml", "main:main", "main", [], "'main' is not a Python function"),
        ("step.yaml", "./code", "./cod", [], "cod is not a directory"),
        ("step.yaml", "", "", ["-p", "min=3"], "parameter min: there is no parameter 'min'; "),
        ("step.yaml", "", "", ["-p", "min_length=x"], "parameter min_length: expected a whole number"),
        ("step.yaml", "", "", ["--step", "other@1"], "expected step other@1, found keep-lines@1"),
        ("step.yaml", "", "", ["--sample", "nowhere"], "nowhere/in: no such directory"),
        ("step.yaml", "inputs: {lines:", "inputs: {rows:", [], "the step has no port lines; the ports are rows"),
        (
            "step.yaml",
            "inputs: {lines: {format: txt}",
            "inputs: {rows: {format: csv}, lines: {}",
            [],
            "has nothing for input rows; expected a file rows.csv, or a directory rows with many",
        ),
    ],
)
def test_what_can_not_be_tried_is_told_in_words(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, before: str, after: str, words: list[str], why: str
) -> None:
    if before:
        change(project, file, before, after)
    assert tried(project, *words) == USAGE
    assert why in capsys.readouterr().err


def test_outputs_are_put_where_nothing_else_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = project / "sample" / "in"
    assert tried(project, "--to", str(sample)) == USAGE
    assert "in is not empty; outputs are put into a directory of their own" in capsys.readouterr().err
    assert tried(project, "--to", str(project / "elsewhere")) == OK
    assert (project / "elsewhere" / "lines.txt").exists()


def test_a_difference_is_told_by_its_first_line(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for expected, made, told in (
        (b"a\nb\n", b"a\nb\n", ""),
        (b"a\nb\n", b"a\nc\n", "line 2: expected 'b', made 'c'"),
        (b"a\n", b"a\n\nb", "line 3: expected 2 lines, made 3"),
        (b"\xff", b"\xfe", "line 1: expected '\\\\xff', made '\\\\xfe'"),
    ):
        left.write_bytes(expected)
        right.write_bytes(made)
        assert difference([left], [right]) == told
    assert difference([], [left]) == "expected 0 units, made 1 unit"
    assert difference([left, right], [left, left]).startswith("unit 2: ")


DIRECTORIES = """\
def main(lines, min_length, out):
    kept = out["lines"]
    for path in sorted(lines.rglob("*.txt")):
        target = kept / path.relative_to(lines)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().upper())
"""


@pytest.fixture
def of_directories(project: Path) -> Path:
    """A step of which a unit is a directory, and its sample."""
    change(project, "step.yaml", "inputs: {lines: {format: txt}", "inputs: {lines: {format: directory}")
    change(project, "step.yaml", "outputs: {lines: {format: txt}", "outputs: {lines: {format: directory}")
    (project / "code" / "main.py").write_text(DIRECTORIES)
    for side, word in (("in", "one"), ("expected", "ONE")):
        (project / "sample" / side / "lines.txt").unlink()
        (project / "sample" / side / "lines" / "below").mkdir(parents=True)
        for name in ("a", "below/b"):
            (project / "sample" / side / "lines" / f"{name}.txt").write_text(f"{word}\n")
    return project


def test_a_directory_can_be_one_unit_of_a_sample(of_directories: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert tried(of_directories) == OK
    assert tried(of_directories) == OK, "what was there is replaced"
    assert (of_directories / "out" / "lines" / "below" / "b.txt").read_text() == "ONE\n"
    assert "as expected" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("below/b.txt", "TWO\n", "below/b.txt: line 1: expected 'TWO', made 'ONE'"),
        ("c.txt", "", "c.txt: expected, and not made"),
        ("a.txt", None, "a.txt: made, and not expected"),
    ],
)
def test_the_first_difference_between_directories_is_told(
    of_directories: Path, capfd: pytest.CaptureFixture[str], file: str, text: str | None, why: str
) -> None:
    expected = of_directories / "sample" / "expected" / "lines" / file
    expected.unlink() if text is None else expected.write_text(text)
    assert tried(of_directories) == NEGATIVE
    assert why in capfd.readouterr().out


def test_a_sample_with_a_link_in_a_directory_is_refused(
    of_directories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (of_directories / "sample" / "in" / "lines" / "link").symlink_to("a.txt")
    assert tried(of_directories) == USAGE
    assert "sample/in/lines: link is a link" in capsys.readouterr().err
