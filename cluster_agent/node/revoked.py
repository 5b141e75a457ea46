"""What a node knows of revocations, for the door at which others fetch data: told by its agent, and kept in a file.

The file lets a daemon that was started again refuse whom it refused before, also while its agent is away.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from bdw_fed.v1.membership_pb2 import Revocation, RevocationList
from wire.identity.files import replace_whole
from wire.identity.revocations import Revocations, as_mapping, statement

FILE: Final = "revoked"  # in the node's directory
_log = structlog.get_logger(__name__)


def known_in(path: Path) -> Revocations:
    """What the file says; nothing if there is none."""
    try:
        return Revocations(as_mapping(RevocationList.FromString(path.read_bytes()).revocations))
    except FileNotFoundError:
        return Revocations()
    except (OSError, DecodeError) as error:
        _log.warning("revocations can't be read; they are told again by the agent", file=str(path), error=str(error))
        return Revocations()


def learn(path: Path, revocations: Revocations, told: Iterable[Revocation]) -> None:
    """Take in what the agent tells, and keep it."""
    if revocations.learn(as_mapping(told)):
        replace_whole(path, statement(revocations))
