"""What every test shares: how hypothesis looks for failures, real servers, and one environment of kind clusters.

The servers start when the first test wants them. They are fixtures of this file, because one that several conftest.py
import from elsewhere would be a server for each of them, and an idle etcd takes its part of a processor, too.

The environment is made once for all tests marked kind, and deleted at the end. With BDW_FED_KIND_STATE it is the one in
that directory, which is made if it is not there and stays, for those who work on it. The node image is the one that
BDW_FED_KIND_IMAGE names.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
sys.path += [str(HERE / "e2e"), str(HERE / "kind")]

if TYPE_CHECKING:
    from kind_clusters import Clusters

    from tests.fixtures.etcd import EtcdServer
    from tests.fixtures.shared import RedisServer, S3Server

settings.register_profile(
    "default", print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.register_profile("quick", parent=settings.get_profile("default"), max_examples=10)
settings.load_profile(os.environ.get("BDW_FED_HYPOTHESIS", "default"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays to the end, so no collection of garbage need look at it, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One etcd for all tests that don't break it. They find nothing in it, see `tests.fixtures.etcd`."""
    from tests.fixtures.etcd import serving

    with serving(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that don't break it."""
    from tests.fixtures.shared import redis_in, serving

    with serving(redis_in(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for all tests that don't break it."""
    from tests.fixtures.shared import s3_in, serving

    with serving(s3_in(tmp_path_factory.mktemp("s3"))) as server:
        yield server


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """edge1, edge2 and cloud1 with the federation on them, pods as workers, and all workflows of the kind tests."""
    import stores
    from kind_clusters import Clusters, lacking

    if found := lacking():
        pytest.skip(f"NOTHING WAS TRIED ON KUBERNETES: {found}")
    kept = os.environ.get("BDW_FED_KIND_STATE")
    state = Path(kept) if kept else tmp_path_factory.mktemp("kind")
    made = Clusters.of(state, tmp_path_factory.mktemp("surroundings"))
    try:
        made.up()
        stores.start(made.kubectl, made.ask_kubectl, made.credentials)
        made.apply_workflows()
        yield made
    finally:
        if not kept:
            made.kind("down")
