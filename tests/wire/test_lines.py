"""A line of a run goes by a name that no run can have, and its tasks are those of the run."""

from __future__ import annotations

import pytest

from control_plane.store.keys import checked_name
from wire.digests import source_task_id, task_id
from wire.lines import LONGEST, begins_with, is_second, line_name, may_name_a_run, run_of


@pytest.mark.parametrize("run", ["delays-x7k2p", "a", "1.2-3", "r" * LONGEST])
def test_a_line_is_told_from_runs_and_names_its_own(run: str) -> None:
    line = line_name(run, 999)
    assert checked_name(line) == line, "it can't be a key"
    assert (run_of(line), run_of(run)) == (run, run)
    assert (begins_with(line), begins_with(run)) == (999, 1)
    assert (is_second(line), is_second(run)) == (True, False)
    assert (may_name_a_run(line), may_name_a_run(run)) == (False, True)


def test_a_name_without_room_for_its_lines_is_none_of_a_run() -> None:
    assert not may_name_a_run("r" * (LONGEST + 1))


def test_a_task_is_the_same_in_each_line() -> None:
    inputs = [("rows", [b"u" * 16])]
    assert task_id("n", "r", "clean", inputs) == task_id("n", line_name("r", 3), "clean", inputs)
    assert source_task_id("n", "r", "in", 0) == source_task_id("n", line_name("r", 3), "in", 0)
    assert task_id("n", "r", "clean", inputs) != task_id("n", "q", "clean", inputs)
