"""One topology after the other in the same state directory: the newest is the one that is meant."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from bdw_fed.client import SyncClient
from bdw_fed.client.errors import Conflict, NotFound
from bdw_fed.embedded.former import take_away


class Hub:
    """Deletes what there is, but not what is in use."""

    def __init__(self, *names: str) -> None:
        self.there = set(names)
        self.busy: set[str] = set()

    def delete(self, kind: str, name: str) -> None:
        assert kind == "Topology"
        if name in self.busy:
            raise Conflict(f"run r goes on in {name}")
        if name not in self.there:
            raise NotFound(f"there is no topology {name}")
        self.there.remove(name)


def test_what_an_earlier_start_has_applied_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    hub = Hub("mine")

    def started(name: str) -> set[str]:
        hub.there.add(name)
        take_away(cast(SyncClient, hub), tmp_path, name)
        return hub.there

    assert started("first") == {"mine", "first"}
    assert started("first") == {"mine", "first"}
    assert started("second") == {"mine", "second"}
    hub.busy.add("second")
    assert started("third") == {"mine", "second", "third"}
    hub.there.remove("third")
    hub.busy.clear()
    assert started("fourth") == {"mine", "fourth"}
    assert started("first") == {"mine", "first"}
