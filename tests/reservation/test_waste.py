"""The measurement behind docs/reservation.md: repeatable, and with the differences that the page speaks of."""

from __future__ import annotations

import pytest

from benchmarks.reservation import mean, measured, picture, table


@pytest.mark.slow  # four days of a federation; what no reservation may do is in `test_promises`
def test_holding_wastes_slots_and_lending_gives_them_to_others() -> None:
    found = {variant: measured(variant, 1) for variant in ("none", "hold", "lend")}
    none, hold, lend = found["none"], found["hold"], found["lend"]
    assert none.held == 0
    assert lend.lent > hold.lent, "what hold shows as lent is only what was there before"
    assert lend.wasted < hold.wasted
    assert mean(lend.others) < mean(hold.others)
    assert mean(hold.took) < mean(none.took)
    for figures in found.values():
        assert all(used + lent <= held for _, held, used, lent in figures.trace)
    again = {"lend": measured("lend", 1)}
    assert table(again) == table({"lend": lend})
    assert picture(again) == picture({"lend": lend})
