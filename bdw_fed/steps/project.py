"""A project for a step of one kind: a definition, code, an image's Dockerfile, a sample with what is expected, a test.

    NAME/step.yaml  Dockerfile  code/  sample/in/  sample/expected/  tests/  README.md

All kinds do the same with their sample, so that whoever knows one finds their way in the others. The files are those
below `templates`: what all kinds share, and what is the kind's.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bdw_fed.steps.errors import StepError, ThereAlreadyError
from topology.schema import Name
from workflow.bundle import SKIPPED
from workflow.model import KINDS, Kind

_TEMPLATES = Path(__file__).with_name("templates")
_NAME = "step-name"  # in the templates, for that of the step
_HIDDEN = {"gitignore": ".gitignore"}


def make_project(name: str, kind: str, directory: Path) -> list[Path]:
    """Make `directory` the project of a step called `name`; its files. StepError; nothing is overwritten."""
    known = _kind(kind)
    _check_name(name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ThereAlreadyError(f"{directory} is there already; choose another name, or --to another directory")
    made = []
    for source in (_TEMPLATES / "shared", _TEMPLATES / known):
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            relative = file.relative_to(source)
            if SKIPPED.intersection(relative.parts):  # what tools have left there
                continue
            target = directory / relative.with_name(_HIDDEN.get(relative.name, relative.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.read_text().replace(_NAME, name))
            made.append(target)
    return sorted(made)


def _kind(word: str) -> Kind:
    for kind in KINDS:
        if kind == word:
            return kind
    raise StepError(f"{word!r} is not a kind of step; expected {', '.join(KINDS)}")


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        wrong = error.errors()[0].get("ctx", {}).get("error")
        remedy = getattr(wrong, "remedy", "")
        raise StepError("; ".join(filter(None, (str(getattr(wrong, "message", wrong)), remedy)))) from None
