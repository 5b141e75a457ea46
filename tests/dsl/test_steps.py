"""A function's signature says all that YAML would, and its code stands alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
import sibling_of_steps as sibling

from bdw_fed.dsl import BuildError, step
from bdw_fed.dsl.steps import StepFunction, write

LEAST = 2
LOCK = threading.Lock()  # something that can't be taken along


class Pair(TypedDict):
    words: str
    numbers: dict[str, int]


def ranked(total: dict[str, int]) -> list[str]:
    return [word for word, number in sorted(total.items()) if number >= LEAST]


@step
def count(text: str) -> dict[str, int]:
    """Counts."""
    return Counter(text.split())


@step
def frequent(counts: list[dict[str, int]], *, stretch: float = 1.0) -> str:
    total = Counter[str]()
    for one in counts:
        total.update(one)
    return " ".join(sibling.cut(ranked(total))) * math.ceil(stretch)


@step(
    version="3", files={"rows": "csv"}, resources={"cpus": 2}, image="python:3.11-slim", env={"LC_ALL": "C"}, cache=True
)
def clean(raw: Path, notes: bytes | None = None, *, out: dict[str, Path], mode: Literal["a", "b"] = "a") -> None:
    out["rows"].write_bytes(raw.read_bytes())


@step
def both(text: str) -> Pair:
    return {"words": text, "numbers": {}}


def test_annotations_say_how_ports_and_parameters_are_taken() -> None:
    spec = frequent.model.spec
    assert {name: port.form for name, port in spec.inputs.items()} == {"counts": "json"}
    assert {name: (each.type, each.default) for name, each in spec.parameters.items()} == {"stretch": ("number", 1.0)}
    assert {name: port.form for name, port in spec.outputs.items()} == {"result": "text"}


def test_files_formats_images_and_resources_are_told() -> None:
    model = clean.model
    assert model.reference == "clean@3"
    assert model.spec.inputs["raw"].form == "path"
    assert model.spec.inputs["notes"].form == "bytes"
    assert model.spec.inputs["notes"].optional
    assert model.spec.outputs["rows"].format == "csv"
    assert model.spec.resources.cpus == 2
    assert model.spec.cache.enabled
    assert (model.spec.run.image, model.spec.run.env) == ("python:3.11-slim", {"LC_ALL": "C"})
    assert model.spec.parameters["mode"].enum == ("a", "b")


def test_a_typed_dictionary_is_an_output_for_each_key() -> None:
    assert {name: port.form for name, port in both.model.spec.outputs.items()} == {"words": "text", "numbers": "json"}


def test_a_step_outside_of_a_workflow_is_the_function() -> None:
    assert frequent([count("a b a"), count("b c")]) == "a b"


def test_the_code_stands_alone_and_does_what_the_function_does(tmp_path: Path) -> None:
    write(frequent.code.files, tmp_path)
    assert set(frequent.code.files) == {"frequent_step.py", "sibling_of_steps.py"}
    module, _, function = frequent.code.function.partition(":")
    program = (
        f"import sys, json, {module}; print(json.dumps({module}.{function}([{{'a': 2}}, {{'b': 1}}], stretch=1.5)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == frequent([{"a": 2}, {"b": 1}], stretch=1.5)


def test_changed_code_is_another_version_and_the_same_code_is_the_same() -> None:
    def made(body: str) -> StepFunction:
        source = f"from bdw_fed.dsl import step\n@step\ndef one(text: str) -> str:\n    return {body}\n"
        return _in_a_module(source)

    assert made("text").model.reference == made("text").model.reference != made("text.upper()").model.reference


def _in_a_module(source: str) -> StepFunction:
    import linecache

    name = f"<step {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "written"}
    exec(compile(source, name, "exec"), scope)
    made = scope["one"]
    assert isinstance(made, StepFunction)
    return made


def uses_a_lock(text: str) -> str:
    with LOCK:
        return text


def takes_anything(*texts: str) -> str:
    return "".join(texts)


def returns_nothing(text: str) -> None:
    del text


def returns_a_path(text: str) -> Path:
    return Path(text)


def has_a_default(text: str = "x") -> str:
    return text


def has_a_strange_parameter(text: str, *, where: Path) -> str:
    return text + str(where)


def forgets_out(text: str) -> None:
    del text


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (uses_a_lock, "uses LOCK, a lock, which can't be taken along"),
        (takes_anything, r"\*texts can't be a port"),
        (returns_nothing, "has no output"),
        (returns_a_path, "a path can't be returned"),
        (has_a_default, r"write \* before it"),
        (has_a_strange_parameter, "parameter where is annotated"),
        (lambda text: text, "a lambda can't be a step|can't be found|not written as a function"),
    ],
)
def test_what_cannot_be_a_step_is_told_with_what_to_do(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        _ = step(function).model


def test_files_need_somewhere_to_be_written() -> None:
    with pytest.raises(BuildError, match="needs an argument out"):
        _ = step(files={"rows": "csv"})(forgets_out).model
