"""A hub that knows a few things by heart, served on loopback over mutual TLS, and the command line pointed at it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "client"))

from fake_hub import FakeHub

from bdw_fed.cli import quantities

NOW = 1_700_000_100.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    with FakeHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """The hub as new, and the environment of somebody who asks it at a fixed time."""
    served.reset()
    monkeypatch.setenv("BDW_FED_HUB", served.address)
    monkeypatch.setenv("BDW_FED_CREDENTIALS", str(served.user))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    # Not `wall_clock` itself: who has imported that before keeps the one that goes.
    monkeypatch.setattr(quantities, "time", SimpleNamespace(**{**vars(time), "time": lambda: NOW}))
    monkeypatch.setenv("TZ", "UTC")
    return served
