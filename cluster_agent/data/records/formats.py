"""Which scanner reads which format; what the formats are is the workflow's matter (`workflow.formats`)."""

from __future__ import annotations

from typing import Final

from cluster_agent.data.records.archive import Members
from cluster_agent.data.records.quoted import Quoted
from cluster_agent.data.records.scanners import Bytes, Lines, Scanner

_SCANNERS: Final[dict[str, type[Scanner]]] = {
    "csv": Quoted,
    "jsonl": Lines,
    "text": Lines,
    "tar": Members,
    "bytes": Bytes,
}


def scanner(form: str) -> Scanner:
    """What reads a format, other than Parquet, from its beginning."""
    return _SCANNERS[form]()
