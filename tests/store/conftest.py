"""The etcd program, and repositories of runs and objects that no other test uses."""

from __future__ import annotations

import secrets

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.store.etcd.client import Client
from control_plane.store.repository import EtcdRepository, Store
from tests.fixtures.etcd import empty_server, etcd, own_server

__all__ = ["empty_server", "etcd", "namespace", "own_server", "runs", "store"]


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def store(etcd: Client) -> Store:
    return Store(etcd)


@pytest.fixture
def runs(store: Store) -> EtcdRepository[m.Run]:
    return store.repository("runs", m.Run)
