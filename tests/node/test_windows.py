"""What a split may have in the store of its node, as its coordinator says before it and meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.windows import Windows

KEY = TaskKey("default", "run-1", b"split", 1)
PART = UnitKey("default", "run-1", b"part")


def store() -> DiskStore:
    """One in which everything stays."""
    return cast(DiskStore, SimpleNamespace(space=SimpleNamespace(listeners=[]), holds=lambda _: True))


def test_a_word_that_comes_before_its_split_has_begun_counts_from_the_beginning() -> None:
    windows = Windows()
    windows.told(KEY, 30)
    with windows.opened(KEY, 10, store()) as window:
        window.entered(PART, 10)
        assert window.takes(20)
        windows.told(KEY, 20)
        assert not window.takes(20)
    with windows.opened(KEY, 10, store()) as window:
        assert window.most == 10, "what was said of the split before is over"


def test_what_was_said_of_a_split_that_went_elsewhere_is_forgotten() -> None:
    windows = Windows()
    windows.told(KEY, 30)
    windows.forget([KEY])
    with windows.opened(KEY, 10, store()) as window:
        assert window.most == 10
