"""Runs in a real etcd."""

from __future__ import annotations

import secrets

import pytest

from control_plane.kinds import Kinds
from control_plane.runs.driver import Runs
from control_plane.store.etcd.client import Client
from control_plane.store.repository import Store
from tests.fixtures.etcd import empty_server, etcd

__all__ = ["empty_server", "etcd"]


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def kinds(etcd: Client) -> Kinds:
    return Kinds(Store(etcd))


@pytest.fixture
def runs(kinds: Kinds) -> Runs:
    return Runs(kinds)
