"""One federation for all end-to-end cases of a runtime: starting it is part of what they show, once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from federation import Federation, lay_out


@pytest.fixture(scope="session", params=["process"])
def federation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation of two edges and a cloud."""
    directory = tmp_path_factory.mktemp(f"federation-{request.param}")
    started = Federation.start(directory, lay_out(directory))
    yield started
    started.stop()
