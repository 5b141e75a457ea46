"""All that is wrong reaches the person who asked, or a count of what did not fit."""

from __future__ import annotations

import pytest

from bdw_fed.v1.control_plane_pb2 import Problem
from wire.errors import ProblemError, line, problems_from_error, problems_to_metadata


class Failed:
    """A failed call, as far as its trailing metadata goes."""

    def __init__(self, metadata: object) -> None:
        self._metadata = metadata

    def trailing_metadata(self) -> object:
        return self._metadata


def test_problems_survive_the_way_through_metadata() -> None:
    problems = [Problem(file="a.yaml", line=3, field="spec.steps[0].use", message="no such step", remedy="apply it")]
    assert problems_from_error(Failed(problems_to_metadata(problems))) == problems  # type: ignore[arg-type]


def test_what_does_not_fit_is_counted() -> None:
    problems = [Problem(field=f"f{index}", message="m" * 500) for index in range(100)]
    arrived = problems_from_error(Failed(problems_to_metadata(problems)))  # type: ignore[arg-type]
    whole = len(arrived) - 1
    assert 0 < whole < 100
    assert arrived[-1].message == f"and {100 - whole} more"


def test_a_call_without_problems_has_none() -> None:
    assert problems_from_error(Failed(None)) == []  # type: ignore[arg-type]
    assert str(ProblemError([Problem(field="a", message="b")])) == "a: b"


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (
            Problem(file="a.yaml", line=3, field="spec.x", message="is wrong", remedy="mend it"),
            "a.yaml:3: spec.x: is wrong",
        ),
        (Problem(field="spec.x", message="is wrong"), "spec.x: is wrong"),
        (Problem(message="is wrong"), "is wrong"),
    ],
)
def test_a_problem_is_told_with_its_place_as_far_as_it_has_one(problem: Problem, told: str) -> None:
    assert line(problem) == told
