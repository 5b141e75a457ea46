"""What a cluster is: written in a word where nothing else is to be said, and stored as it was written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from topology.model import Runtime


@pytest.mark.parametrize("written", ["kubernetes", {"kubernetes": {}}, {"kubernetes": None}])
def test_plain_kubernetes_is_the_context_in_use_and_our_namespace(written: object) -> None:
    runtime = Runtime.model_validate(written)
    assert runtime.kind == "kubernetes"
    assert runtime.kubernetes
    assert (runtime.kubernetes.context, runtime.kubernetes.namespace) == ("", "bdw-fed")
    assert runtime.model_dump() == "kubernetes"


@pytest.mark.parametrize(
    "written", ["process", "kubernetes", {"kubernetes": {"context": "c"}}, {"kubernetes": {"namespace": "n"}}]
)
def test_it_is_stored_as_it_was_written(written: object) -> None:
    assert Runtime.model_validate(written).model_dump() == written


@pytest.mark.parametrize("written", ["pods", None, {"kubernetes": {"cluster": "c"}}, {"kubernetes": "c"}, 5])
def test_anything_else_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        Runtime.model_validate(written)
