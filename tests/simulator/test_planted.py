"""The simulator can fail: each of these bugs, planted into the production code, is found within a few seeds."""

from __future__ import annotations

import pytest

from simulator.trials.sweep import sweep
from tests.simulator.planted import PLANTED, planted

WITHIN = 300
RARE = {
    "damage_of_what_was_called_back_is_not_told",
    "forgotten_with_the_fragment_before_it",
    "units_without_bytes_may_go",
    "what_a_disk_shows_again_is_left",
    "what_was_short_stays_short",
    "full_disk_is_taken_for_a_large_result",
    "hub_is_believed_of_who_is_revoked",
    "last_words_that_are_lost",
    "line_counts_on_what_is_gone",
    "line_of_what_has_stopped",
    "mends_what_is_new",
    "nobody_says_that_it_has_ended",
    "nobody_says_that_nothing_moves",
    "outputs_of_a_replaced_line_count",
    "parked_units_are_on_their_way",
    "part_of_a_write_is_taken_for_all",
    "parts_that_nobody_frees",
    "results_that_came_late_are_waited_for",
    "retries_end_with_a_restart",
    "revoked_clusters_are_waited_for",
    "room_is_told_after_the_write",
    "room_is_waited_for_in_vain",
    "room_of_a_window_is_given_twice",
    "splits_are_in_the_way",
    "what_is_stranded_is_at_work",
    "what_no_disk_has_taken_stays",
    "what_waits_for_a_quota_stays",
    "who_comes_late_hears_of_no_line",
    "who_has_not_heard_of_a_line_has_lost_its_units",
}
"""What needs more of a coincidence than so many seeds have: the scenarios that are named after these find them."""


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("name", sorted(PLANTED.keys() - RARE))
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name):
        found = next((one for one in sweep(1, WITHIN, processes=1) if one.verdict.violations), None)
    assert found is not None, f"{WITHIN} seeds have not found it"


def test_what_is_quickly_found_is_found_at_once() -> None:
    for name in ("slot_leaks", "epoch_not_checked", "offer_executed_without_a_grant"):
        with planted(name):
            assert any(one.verdict.violations for one in sweep(1, 30, processes=1)), name
