"""The canonical form: one for all spellings of the same, and the object comes back from it whole."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given

from tests.workflow.objects import Plain, objects
from workflow.canonical import KINDS, canonical_json, canonical_yaml, from_canonical
from workflow.diff import unified
from workflow.load import load

ONE = """
kind: Workflow
metadata: {name: delays}
spec:
  inputs: {flights: {dataset: flights}}
  steps:
    - {name: clean, use: clean@1, in: {rows: {from: inputs.flights, split: {size: 4096KiB}}}, timeout: 300s}
  outputs: {rows: clean.rows}
"""
OTHER = """
# the same in other words
spec:
  outputs:
    rows: {from: clean.rows}
  steps:
  - timeout: 5m
    in:
      rows:
        split: {size: 4194304}
        from: "inputs.flights"
    use: 'clean@1'
    name: clean
  inputs:
    flights: {dataset: flights}
metadata:
  name: delays
kind: Workflow
"""


@given(objects)
def test_an_object_survives_its_canonical_form(written: Plain) -> None:
    model = KINDS[written["kind"]].model_validate(written)
    text = canonical_json(model)
    assert from_canonical(text) == model
    assert canonical_json(from_canonical(text)) == text


@given(objects)
def test_an_object_survives_its_yaml_form(written: Plain) -> None:
    model = KINDS[written["kind"]].model_validate(written)
    loaded = load(canonical_yaml(model))
    assert loaded.problems == ()
    assert canonical_json(loaded.documents[0].model) == canonical_json(model)


@given(objects)
def test_the_order_of_fields_does_not_matter(written: Plain) -> None:
    turned = json.loads(json.dumps(written), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    kind = KINDS[written["kind"]]
    assert canonical_json(kind.model_validate(turned)) == canonical_json(kind.model_validate(written))


def test_two_spellings_of_the_same_have_one_canonical_form() -> None:
    one, other = (canonical_json(load(text).documents[0].model) for text in (ONE, OTHER))
    assert one == other
    assert '"size":"4Mi"' in one and '"timeout":"5m"' in one and '"rows":"clean.rows"' in one


def test_what_was_not_written_stays_out() -> None:
    spec = json.loads(canonical_json(load(ONE).documents[0].model))["spec"]
    assert "policy" not in spec and "retry" not in spec["steps"][0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind":"Pod"}', '{"kind":["Step"]}', '{"kind":"Step"}'])
def test_what_is_no_canonical_form_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        from_canonical(text)


def test_a_diff_shows_the_lines_that_change_in_the_yaml_form() -> None:
    stored = load(ONE).documents[0].model
    new = load(ONE.replace("300s", "10m")).documents[0].model
    lines = unified(stored, new).splitlines()
    assert lines[:2] == ["--- stored/Workflow/delays", "+++ new/Workflow/delays"]
    assert "-    timeout: 5m" in lines and "+    timeout: 10m" in lines
    assert unified(stored, load(OTHER).documents[0].model) == ""


def test_a_new_object_and_one_that_goes_are_diffs_against_nothing() -> None:
    model = load(ONE).documents[0].model
    assert unified(None, model).startswith("--- /dev/null\n+++ new/Workflow/delays\n")
    assert unified(model, None).startswith("--- stored/Workflow/delays\n+++ /dev/null\n")
    assert unified(None, None) == ""


def test_the_yaml_form_reads_as_any_yaml() -> None:
    assert yaml.safe_load(canonical_yaml(load(ONE).documents[0].model))["spec"]["steps"][0]["timeout"] == "5m"
