"""One federation a runtime for all end-to-end cases: starting it is part of what they show, once.

That of processes has a Redis and a bucket for edge1, and the same bucket for cloud1; edge2 has its disk.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import worked
from federation import Federation, add_datasets, add_storage, lay_out

RUNTIMES = [
    pytest.param("process", marks=pytest.mark.slow),
    pytest.param("kubernetes", marks=pytest.mark.kind),
]


@pytest.fixture(scope="session", params=RUNTIMES)
def federation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation of two edges and a cloud: workers are processes of this machine, or pods of kind clusters."""
    if request.param == "kubernetes":
        clusters = request.getfixturevalue("clusters")
        for cluster in ("edge1", "edge2", "cloud1"):  # one that was there already will do
            clusters.ask_kubectl(
                cluster, "create", "secret", "generic", "bdw-fed-secret-default-e2e", "--from-literal=password=hush"
            )
        yield clusters.federation
        return
    directory = tmp_path_factory.mktemp(f"federation-{request.param}")
    kept = directory / "state" / "secrets" / "default" / "e2e" / "password"
    kept.parent.mkdir(parents=True)
    kept.write_text("hush")
    topology = lay_out(directory)
    add_datasets(topology, worked.lay_out(directory))
    add_storage(
        topology, directory / "state", request.getfixturevalue("redis_server"), request.getfixturevalue("s3_server")
    )
    started = Federation.start(directory, topology)
    yield started
    started.stop()
