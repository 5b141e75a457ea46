"""The etcd program that a hub brings itself."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from control_plane.store.etcd.client import Client
from control_plane.store.etcd.embedded import EtcdFailed, command, environment
from control_plane.store.etcd.kv import Kv
from tests.fixtures.etcd import EtcdServer, server_in


async def test_its_state_is_closed_to_others_and_outlives_it(own_server: EtcdServer) -> None:
    state = own_server.etcd.config.state
    async with Client(own_server.config()) as client:
        await Kv(client).put(b"a", b"x")
        await own_server.etcd.stop()
        await own_server.etcd.start()
        assert await Kv(client).get(b"a") is not None
    for path in (state, state / "data"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_a_start_that_fails_shows_the_reason(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    server.etcd.config = dataclasses.replace(server.etcd.config, certificate=tmp_path / "missing.pem")
    with pytest.raises(EtcdFailed, match=r"(?s)ended with code 1.*etcd\.log.*missing\.pem"):
        await server.etcd.start()


def test_the_users_own_etcd_variables_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "other")
    assert not environment().keys() & os.environ.keys()


def test_only_who_asks_for_it_runs_without_syncing(tmp_path: Path) -> None:
    config = server_in(tmp_path).etcd.config
    assert "--unsafe-no-fsync=true" in command(config)
    assert not [word for word in command(dataclasses.replace(config, durability="power")) if "fsync" in word]
