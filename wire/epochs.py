"""The hub's word which fragments of a run count, carried by peers to who was out of touch when it was said.

    hub: a newer revision ─ signed ─▶ fragments of it ─▶ coordinators ─ Superseded ─▶ who was replaced: believed, stops

Any member could say that another one was replaced, and stop a run by that; only the hub's own word is believed. A word
of an earlier run of the same name is none: epochs only grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bdw_fed.v1.model_pb2 import EpochTable, SignedEpochs
from wire.identity.credentials import Credentials
from wire.signing import sign, verify

_MEANT = b"bdw-fed epochs\0"


def issue(credentials: Credentials, namespace: str, run: str, revision: int, epochs: Mapping[str, int]) -> SignedEpochs:
    """The table, signed by the hub whose credentials these are."""
    table = EpochTable(namespace=namespace, run=run, revision=revision, epochs=epochs)
    statement = table.SerializeToString(deterministic=True)
    signature, certificates = sign(credentials, _MEANT, statement)
    return SignedEpochs(table=statement, signature=signature, certificates=certificates)


def check(signed: SignedEpochs, ca: Path, *, now: float) -> None:
    """Raises SignatureError unless a hub of the federation with this authority has said it."""
    verify(_MEANT, signed.table, signed.signature, signed.certificates, ca, now=now)
