"""That a cluster was replaced is the hub's word, whoever shows it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bdw_fed.v1.model_pb2 import EpochTable, SignedEpochs
from wire import epochs, permits
from wire.identity import Identity, Role
from wire.identity.authority import Authority
from wire.signing import SignatureError

NOW = time.time()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


def test_what_the_hub_says_is_believed_of_anybody(authority: Authority, tmp_path: Path) -> None:
    hub = authority.issue(Identity(Role.HUB, "hub"), tmp_path / "hub")
    signed = SignedEpochs.FromString(epochs.issue(hub, "n", "r", 2, {"a": 7, "b": 7}).SerializeToString())
    epochs.check(signed, hub.ca, now=NOW)
    table = EpochTable.FromString(signed.table)
    assert (table.namespace, table.run, table.revision, dict(table.epochs)) == ("n", "r", 2, {"a": 7, "b": 7})


def test_what_a_member_says_is_not(authority: Authority, tmp_path: Path) -> None:
    agent = authority.issue(Identity(Role.AGENT, "mallory"), tmp_path / "mallory")
    stranger = Authority.create(tmp_path / "other").issue(Identity(Role.HUB, "hub"), tmp_path / "stranger")
    for credentials in (agent, stranger):
        with pytest.raises(SignatureError, match="not signed by a hub"):
            epochs.check(epochs.issue(credentials, "n", "r", 2, {"mallory": 2}), agent.ca, now=NOW)
    with pytest.raises(SignatureError, match="not signed by a hub"):
        epochs.check(SignedEpochs(), agent.ca, now=NOW)


def test_nor_what_the_hub_has_signed_otherwise(authority: Authority, tmp_path: Path) -> None:
    hub = authority.issue(Identity(Role.HUB, "hub"), tmp_path / "hub")
    signed = epochs.issue(hub, "n", "r", 2, {"a": 7})
    changed = EpochTable.FromString(signed.table)
    changed.run = "another"
    signed.table = changed.SerializeToString()
    with pytest.raises(SignatureError, match="signature is wrong"):
        epochs.check(signed, hub.ca, now=NOW)
    permit = permits.SignedPermit.FromString(permits.issue(hub, "ann", "n", "r", now=NOW))
    borrowed = SignedEpochs(table=permit.permit, signature=permit.signature, certificates=permit.certificates)
    with pytest.raises(SignatureError, match="signature is wrong"):
        epochs.check(borrowed, hub.ca, now=NOW)
