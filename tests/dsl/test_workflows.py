"""A function that calls steps says what a YAML file would say, and what is wrong is said while it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest

from bdw_fed.dsl import BuildError, Data, Dataset, each, step, when, workflow
from bdw_fed.dsl.workflows import Workflow
from workflow.load import load, read


class Sides(TypedDict):
    left: str
    right: str


@step
def count(text: str) -> dict[str, int]:
    return dict.fromkeys(text.split(), 1)


@step
def add(counts: list[dict[str, int]], *, top: int = 10, title: str = "") -> str:
    return f"{title}{len(counts)}{top}"


@step
def total(counts: list[dict[str, int]], *, least: int = 0) -> dict[str, int]:
    return {word: number for one in counts for word, number in one.items() if number >= least}


@step
def size(counts: list[dict[str, int]]) -> int:
    return len(counts)


@step
def halve(text: str) -> Sides:
    return {"left": text[::2], "right": text[1::2]}


@workflow(policy={"reserve": "none"}, inputs={"more": "reviews"})
def word_count(texts: Dataset, more: Dataset, *, top: int = 3) -> dict[str, Data]:
    """Words, counted where they lie."""
    counted = count.at(tier="edge")(texts.split(lines=1))
    table = add.using(name="sum-up", retry={"attempts": 5})(counted.gather(), top=top, title=f"The {top} first: ")
    return {"words": table.file("words.txt"), "others": count(more)}


def test_the_model_says_what_the_function_says() -> None:
    spec = word_count.model.spec
    assert {name: given.dataset for name, given in spec.inputs.items()} == {"texts": "texts", "more": "reviews"}
    first, second, third = spec.steps
    assert (first.name, first.use, first.place.tier) == ("count", count.model.reference, "edge")
    assert first.inputs["text"].split is not None
    assert first.inputs["text"].split.lines == 1
    assert (second.name, second.retry.attempts) == ("sum-up", 5)
    assert second.inputs["counts"].gather == "all"
    assert second.parameters == {"top": "{param.top}", "title": "The {param.top} first: "}
    assert third.name == "count2"
    assert (spec.outputs["words"].source, spec.outputs["words"].file) == ("sum-up.result", "words.txt")


def test_yaml_is_read_as_the_same_models() -> None:
    loaded = load(word_count.yaml())
    assert not loaded.problems
    models = [document.model for document in loaded.documents]
    assert models == [*(used.model for used in word_count.steps.values()), word_count.model]


def test_what_is_saved_can_be_applied_as_files(tmp_path: Path) -> None:
    place = word_count.save(tmp_path / "job")
    assert not read(place / "word-count.yaml").problems
    for used in word_count.steps.values():
        bundle = used.model.spec.run.bundle
        assert bundle is not None
        assert (place / bundle / f"{used.function.__name__}_step.py").is_file()


def test_a_documents_bundle_is_the_code() -> None:
    assert [bool(document.bundle) for document in word_count.documents()] == [True, True, False]


def test_loops_and_conditions_of_python_build_the_graph() -> None:
    @workflow
    def sweep(texts: Dataset, *, sides: list[str], top: int = 1) -> dict[str, Data]:
        halves = halve(texts)
        return {side: add(count(halves[side]).gather(), top=top) for side in sides if side != "none"}

    built = sweep.of(sides=["left", "right", "none"])
    assert list(built.model.spec.outputs) == ["left", "right"]
    assert list(built.model.spec.parameters) == ["top"]
    assert [use.name for use in built.model.spec.steps] == ["halve", "count", "add", "count2", "add2"]


def test_what_is_decided_at_submission_is_said_around_the_steps() -> None:
    @workflow
    def variants(
        texts: Dataset,
        *,
        mode: str = "full",
        tops: tuple[int, ...] = (1, 2),
        least: int = 0,
    ) -> dict[str, Data]:
        counts = count(texts)
        with each(top=tops, title=["a", "b"]) as (top, title), when((mode == "full") | (top > least)):
            tables = add(counts.gather(), top=top, title=f"{title}:")
        with when(~mode.is_in(["quick"])):  # type: ignore[attr-defined]
            whole = total(counts.gather("tree"), least=size(counts.gather()))
        with each(number=range(2, 9, 3)) as number:
            others = add(counts.group("{key}.csv"), top=number)
        with when((size(counts.gather()).value > least) & (mode == "full")):
            others = add(counts.gather())
        return {"tables": tables, "whole": whole, "others": others}

    spec = variants.model.spec
    written = {use.name: use.model_dump(mode="json", by_alias=True, exclude_unset=True) for use in spec.steps}
    first = written["add"]
    assert first["when"] == "(param.mode == 'full') or (item.top > param.least)"
    assert first["for_each"] == {"top": {"from": "param.tops"}, "title": ["a", "b"]}
    assert first["parameters"] == {"top": "{item.top}", "title": "{item.title}:"}
    assert written["total"]["when"] == "not (param.mode in ['quick'])"
    assert written["total"]["parameters"] == {"least": "{size.result}"}
    assert written["add3"]["when"] == "({size2.result} > param.least) and (param.mode == 'full')"
    assert written["add2"]["for_each"] == {"number": {"sequence": {"from": 2, "to": 8, "step": 3}}}


def _wrong(body: Any) -> Workflow:
    def wrong(texts: Dataset, *, top: int = 3) -> Any:
        return body(texts, top)

    return workflow(wrong)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda texts, top: count(top), "input text is given the value param.top, but takes data"),
        (lambda texts, top: count("a text"), "input text is given a str, but takes data"),
        (lambda texts, top: add(count(texts), top=texts), "parameter top is given data"),
        (lambda texts, top: add(count(texts), top=count(texts).gather()), "parameter top is given data"),
        (lambda texts, top: add(count(texts), top=halve(texts)), "parameter top is given data"),
        (lambda texts, top: add(count(texts), best=1), "has no input or parameter best"),
        (lambda texts, top: count(texts, texts), "2 inputs are given, but the step has 1"),
        (lambda texts, top: count(texts) if top > 2 else texts, "decides on param.top > 2"),
        (lambda texts, top: [count(each) for each in texts], "can't be gone through"),
        (lambda texts, top: f"{top:>5}", "no value yet"),
        (lambda texts, top: None, "returns nothing"),
        (lambda texts, top: {"both": halve(texts)}, "output both is not the data of one port"),
        (lambda texts, top: halve(texts).middle, "has no output middle; it has left, right"),
        (lambda texts, top: count.using(name="Big Name")(texts), "is not a name"),
        (lambda texts, top: count(texts.split(lines=1, size="4MiB")), "exactly one of"),
        (lambda texts, top: count.using(nome="x")(texts), "nome"),
        (lambda texts, top: count(texts).merge("csv", gather="tree"), "one file of all units, not by tree"),
    ],
)
def test_what_is_wrong_is_said_while_it_is_built(body: Any, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        _ = _wrong(body).model


def test_a_workflow_is_not_built_within_another() -> None:
    @workflow
    def outer(texts: Dataset) -> Any:
        _ = word_count.model.metadata
        fresh = workflow(lambda texts: count(texts))
        return fresh.model

    with pytest.raises(BuildError, match="within another one's function"):
        _ = outer.model


@step
def whole(rows: Path) -> str:
    return rows.name


@workflow
def merging(texts: Dataset) -> dict[str, Data]:
    """Words, put together again."""
    counted = count(texts.split(per="slot", header=True))
    return {"all": counted.merge("jsonl").file("all.jsonl"), "name": whole(counted.merge("concat", gather="tree"))}


def test_what_is_merged_is_one_file_for_a_step_and_for_the_workflow() -> None:
    spec = merging.model.spec
    assert spec.outputs["all"].merge == "jsonl"
    assert spec.outputs["all"].file == "all.jsonl"
    whole_use = next(use for use in spec.steps if use.name == "whole")
    (binding,) = whole_use.inputs.values()
    assert (binding.gather, binding.merge) == ("tree", "concat")
    count_use = next(use for use in spec.steps if use.name == "count")
    assert next(iter(count_use.inputs.values())).split is not None


@workflow(inputs={"models": {"format": "directory"}, "texts": {"dataset": "reviews"}})
def of_folders(models: Dataset, texts: Dataset) -> dict[str, Data]:
    """The datasets as they are."""
    return {"all": count(texts), "models": whole(models.gather())}


def test_an_input_may_be_of_directories() -> None:
    inputs = of_folders.model.spec.inputs
    assert (inputs["models"].dataset, inputs["models"].format) == ("models", "directory")
    assert (inputs["texts"].dataset, inputs["texts"].format) == ("reviews", None)


@step
def least(texts: list[str]) -> int:
    return min(map(len, texts))


@step
def first_of(texts: list[str]) -> str:
    return min(texts)


@step
def pair(left: str, right: str) -> str:
    return left + right


@step
def between(text: str, others: list[str], *, top: int = 1) -> str:
    return f"{text}{others}{top}"


def test_how_units_come_together_is_said_by_methods() -> None:
    @workflow
    def shapes(texts: Dataset, more: Dataset) -> dict[str, Data]:
        made = between(texts.split(lines=1), more.broadcast(), top=least(texts.gather()))
        return {
            "batched": least(made.batch(count=10, wait="1s")),
            "grouped": least(made.group("{key}-*.txt")),
            "zipped": pair(made.zip(), made.zip()),
            "crossed": pair(made, more.cross()),
            "first": first_of(made.gather("tree")),
        }

    _, second, batched, grouped, zipped, crossed, last = shapes.model.spec.steps
    assert second.inputs["others"].broadcast
    assert second.parameters == {"top": "{least.result}"}
    assert batched.inputs["texts"].batch is not None
    assert (batched.inputs["texts"].batch.count, batched.inputs["texts"].batch.wait) == (10, 1.0)
    assert grouped.inputs["texts"].group is not None
    assert grouped.inputs["texts"].group.by == "{key}-*.txt"
    assert zipped.inputs["left"].zip
    assert zipped.inputs["right"].zip
    assert crossed.inputs["right"].cross
    assert last.inputs["texts"].gather == "tree"
    loaded = load(shapes.yaml())
    assert not loaded.problems


def test_a_parameter_takes_a_value_of_a_step_and_no_dataset() -> None:
    @workflow
    def wrong(texts: Dataset) -> Data:
        return add(count(texts).gather(), top=texts)  # type: ignore[no-any-return]

    with pytest.raises(BuildError, match="parameter top is given data, and takes one value, such as a step returns"):
        wrong.yaml()
