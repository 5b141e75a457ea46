"""The loader: lines are right, text is taken as it was meant, and nothing that is fed to it makes it raise."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.workflow.objects import Plain, objects
from topology.problems import Problem
from workflow.documents import written
from workflow.documents.shown import dump
from workflow.load import Loaded, load, read
from workflow.model import Step, Workflow

STEP = """\
kind: Step
metadata: {name: clean, version: "1"}
spec:
  run: {python: "clean:main"}
"""

WORDS = """kind: Topology Workflow Step metadata spec steps name : - ? { } [ ] , &a *a <<: !!str !x ' " | > # % @ ` \\ é
null ~ 1 -1.5e9 0x10 .inf .nan true ..."""
yaml_pieces = st.lists(
    st.sampled_from(
        [*WORDS.split(), "\n", "\n  ", "\n- ", ": ", " ", "|\n", "---\n", "\t", "\r", "\u2028", "\x85", "\ufeff"]
    ),
    max_size=40,
).map("".join)

_LABELLED: Plain = {
    "kind": "Topology",
    "metadata": {"name": "0"},
    "spec": {"zones": [{"name": "0", "tier": "edge", "labels": {"0": "0E0"}}], "clusters": []},
}


def loads(text: str) -> Loaded:
    """The load of any text: problems are problems, told with a line of the text."""
    loaded = load(text, "some.yaml")
    assert loaded.documents or loaded.problems
    for problem in loaded.problems:
        assert problem.message and problem.file == "some.yaml"
        assert 1 <= problem.line <= len(text) + 1
    return loaded


@given(st.text())
@example("\ud800")
@example("a: \x00")
@example("%YAML 9.9\n---\n")
@example("﻿kind: Step")
@example("- " * 100)
@example("[" * 10_000)
@example("&a [*a]")
@example("? {a: b}\n: c")
def test_any_text_gives_documents_or_problems(text: str) -> None:
    loads(text)


@given(yaml_pieces)
def test_any_text_that_looks_like_yaml_gives_documents_or_problems(text: str) -> None:
    loads(text)


@given(objects, st.data())
def test_an_object_with_one_field_spoilt_gives_documents_or_problems(plain: Plain, data: st.DataObject) -> None:
    """Whatever stands in whatever place, it is told, not raised."""
    around: dict[str, object] | list[object] = plain
    while True:
        key = data.draw(st.sampled_from(list(around) if isinstance(around, dict) else list(range(len(around)))))
        inner = around[key]  # type: ignore[index,call-overload]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 3)) == 0:
            break
        around = inner
    spoilt = data.draw(st.none() | st.booleans() | st.integers() | st.floats() | st.just([]) | st.just({"x": [None]}))
    around[key] = spoilt  # type: ignore[index,call-overload]
    loads(yaml.safe_dump(plain))


@given(objects)
@example(_LABELLED)
def test_what_an_author_can_write_is_loaded(plain: Plain) -> None:
    """Text that YAML 1.2 takes for a number is quoted, as an author has to."""
    loaded = load(dump(plain))
    assert loaded.problems == ()


def test_a_step_that_is_right_is_loaded_with_its_lines() -> None:
    loaded = load("# comment\n" + STEP, "steps.yaml")
    (document,) = loaded.documents
    assert loaded.problems == ()
    assert isinstance(document.model, Step) and document.model.reference == "clean@1"
    assert document.positions.line(("metadata", "name")) == 3
    assert document.positions.line(("spec", "run", "python")) == 5
    assert document.positions.line(("spec", "run", "no", "such", "field")) == 5


def test_lines_count_from_where_the_text_starts_in_its_file() -> None:
    (problem,) = load(STEP.replace("python", "pythn"), "steps.yaml", line=40).problems
    assert (problem.file, problem.line, problem.field) == ("steps.yaml", 43, "spec.run.pythn")


def test_each_document_has_its_own_text_which_alone_gives_the_same() -> None:
    text = (
        f"# first\n{STEP}---\n# second\n{STEP.replace('clean', 'join')}---\n---\n{STEP.replace('clean', 'third')}...\n"
    )
    documents = load(text, "steps.yaml").documents
    assert [one.model.metadata.name for one in documents] == ["clean", "join", "third"]
    for one in documents:
        (again,) = load(one.text, "steps.yaml").documents
        assert again.model == one.model
    assert text.splitlines()[documents[1].line - 1] == "---"
    assert "".join(one.text for one in documents) == text


def test_a_document_sent_alone_tells_the_lines_of_its_file() -> None:
    text = STEP + "---\n" + STEP.replace("python", "pythn")
    wrong = load(text, "steps.yaml").problems[0]
    first = load(text.replace("pythn", "python"), "steps.yaml").documents[1]
    assert load(first.text.replace("python", "pythn"), "steps.yaml", first.line).problems == (wrong,)


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "2024-01-01", "1:30", "0b1", "1_000"])
def test_a_word_that_older_yaml_took_for_something_else_is_text(word: str) -> None:
    (document,) = load(STEP.replace("name: clean", f"name: clean, labels: {{a: {word}}}")).documents
    assert document.model.metadata.labels == {"a": word}


def test_a_key_is_text_whatever_it_looks_like() -> None:
    (document,) = load(STEP.replace("name: clean", "name: clean, labels: {1: a, true: b}")).documents
    assert document.model.metadata.labels == {"1": "a", "true": "b"}


def test_an_alias_stands_for_what_it_names() -> None:
    text = """
kind: Workflow
metadata: {name: w}
spec:
  steps:
    - {name: a, use: s@1, retry: &often {attempts: 5, backoff: 2s}}
    - {name: b, use: s@1, retry: *often}
"""
    (document,) = load(text).documents
    assert isinstance(document.model, Workflow)
    assert document.model.spec.steps[0].retry == document.model.spec.steps[1].retry


def test_all_that_is_wrong_is_told_at_once() -> None:
    text = STEP.replace("python", "pythn") + "---\n" + STEP.replace("clean", "CLEAN") + "---\n{\n"
    lines = [problem.line for problem in load(text, "x").problems]
    assert lines == sorted(lines) and {4, 7, 11} <= set(lines)


def test_a_file_that_is_too_long_is_not_read_further() -> None:
    loaded = load("#" * (written.MOST_CHARACTERS + 1))
    assert "longer than" in loaded.problems[0].message


def test_many_documents_in_one_file_have_a_bound() -> None:
    assert "documents" in load("--- a\n" * (written.MOST_DOCUMENTS + 1)).problems[-1].message


def test_a_file_is_read_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "steps.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + STEP.encode())
    (document,) = read(file).documents
    assert document.positions.file == str(file)


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert read(binary).problems[0].message == "the file is not text in UTF-8"
    missing = tmp_path / "missing.yaml"
    expected = Problem(str(missing), 0, "", "can't be read: no such file or directory", "check the path and its rights")
    assert read(missing).problems == (expected,)
    assert "directory" in read(tmp_path).problems[0].message
