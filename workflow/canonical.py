"""The one form in which an object is stored and compared, and the form in which it is shown.

The canonical form is JSON with sorted keys and without white space; quantities in their shortest exact spelling; what
was not written stays out. Two files that say the same in another order, spelling or quoting have the same canonical
form. The YAML form holds the same words in the order of the reference pages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from topology.model import Topology
from workflow.model import Quota, Step, Workflow

AnyObject = Topology | Step | Workflow | Quota
KINDS: Mapping[str, type[AnyObject]] = {"Topology": Topology, "Step": Step, "Workflow": Workflow, "Quota": Quota}


def plain(model: AnyObject) -> dict[str, object]:
    """The object as dictionaries, lists, text, numbers and truth values; quantities as text."""
    written: dict[str, object] = model.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return {"kind": model.kind, "metadata": written["metadata"], "spec": written["spec"]}


def canonical_json(model: AnyObject) -> str:
    """The canonical form of an object."""
    return json.dumps(plain(model), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_canonical(text: str) -> AnyObject:
    """The object of a canonical form.

    Raises `ValueError` (as pydantic's `ValidationError` or json's `JSONDecodeError`) when it is not one.
    """
    written = json.loads(text)
    kind = written.get("kind") if isinstance(written, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of object")
    return KINDS[kind].model_validate(written)


def canonical_yaml(model: AnyObject) -> str:
    """The object as YAML for people."""
    from workflow.documents.shown import dump

    return dump(plain(model))
