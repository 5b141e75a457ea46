"""The node token: what lets nodes join at their agent, in a file that the operator carries to them.

Whoever has a node may have a copy of the file. So when a node is revoked, the token that was there is *retired*: it
lets nobody in any more, under no name. Nodes that are in stay in.

    one of our nodes is revoked ─▶ the token's digest is written down beside the file ─▶ the file gets a new token

The first step is enough to refuse it, so a crash or a full disk in between lets nobody in. A file that is not ours to
write, such as one in a Secret, has to be given another token; it is read again whenever somebody joins.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import structlog

from cluster_agent.membership.errors import JoinError
from wire.identity import Credentials
from wire.identity.authority import authority_hash
from wire.identity.files import replace_whole

FILE = "node-token"
_RETIRED = "node-tokens-retired"
_FORM = re.compile(r"(sha256:[0-9a-f]{64})\.([0-9a-f]{40})")
_log = structlog.get_logger(__name__)


def new_node_token(authority: str) -> str:
    """A node token for a cluster of the authority with this hash."""
    return f"{authority}.{secrets.token_hex(20)}"


def read_token(path: Path) -> str:
    """The node token in a file. JoinError if it has none."""
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise JoinError(f"{path}: the node token can't be read ({error.strerror})") from error
    hash_of(text, str(path))
    return text


def hash_of(token: str, where: str) -> str:
    """The hash of the authority, which a node token begins with. JoinError names `where` it was found."""
    found = _FORM.fullmatch(token)
    if found is None:
        raise JoinError(f"{where}: this is no node token; expected is the content of the agent's file '{FILE}'")
    return found[1]


class NodeToken:
    """The token that counts, and those that do no more. `given`: the file of somebody else; None: one in `state`."""

    def __init__(self, state: Path, given: Path | None, credentials: Credentials) -> None:
        self._path = given or state / FILE
        self._is_ours = given is None
        self._record = state / _RETIRED
        self._credentials = credentials
        told = json.loads(self._record.read_bytes()) if self._record.exists() else {}
        self._digests: set[str] = set(told.get("digests", ()))
        self._for: dict[str, int] = dict(told.get("for", {}))  # the nodes for whose sake, and their generations

    def settle(self, revoked: Mapping[str, int]) -> None:
        """Retire the token if it is from before one of these nodes was revoked, and see that there is one in our file.

        JoinError if a file that is not ours has none.
        """
        if not self._path.exists() and self._is_ours:
            self._renew()
        if any(valid_from > self._for.get(node, 0) for node, valid_from in revoked.items()):
            self._digests.add(_digest(read_token(self._path)))
            self._for |= revoked
            told = {"digests": sorted(self._digests), "for": self._for}
            replace_whole(self._record, json.dumps(told).encode())
            _log.warning("the node token is retired: a node was revoked", file=str(self._path))
        if self._is_ours and self._is_retired(read_token(self._path)):
            self._renew()

    def heard(self, revoked: Mapping[str, int]) -> None:
        """As `settle`, while the agent runs: what can't be written now is written at its next start."""
        try:
            self.settle(revoked)
        except (OSError, JoinError) as error:
            _log.error("no new node token can be written: nobody joins until the agent is started", error=str(error))

    def check(self, presented: str) -> None:
        """JoinError says why nobody is let in with what is presented."""
        if self._is_retired(presented):
            raise JoinError(
                "this node token is from before a node of the cluster was revoked: copy the agent's file "
                f"'{FILE}' to this node again"
            )
        current = read_token(self._path)
        if not hmac.compare_digest(presented.encode(), current.encode()):
            if self._is_retired(current):
                raise JoinError(f"a node was revoked: {self._path} has to be given a new node token first")
            raise JoinError(f"this is not the node token: copy the agent's file '{FILE}' to the node")

    def _renew(self) -> None:
        replace_whole(self._path, f"{new_node_token(authority_hash(self._credentials.ca.read_bytes()))}\n".encode())

    def _is_retired(self, token: str) -> bool:
        return _digest(token) in self._digests


def _digest(token: str) -> str:
    return hashlib.sha256(f"bdw-fed retired {token}".encode()).hexdigest()
