"""Structured logs of the services: one JSON object a line, warnings and worse unless asked for more.

Values of keys that hold secrets are never written, whoever logs them.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

_SECRET = ("token", "password", "secret", "private", "authorization")


def _hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if any(part in key.lower() for part in _SECRET):
            event[key] = "(hidden)"
    return event


def configure(role: str, name: str, *, level: str | None = None, path: Path | None = None) -> None:
    """Send this process's logs to `path` (appended), or to standard error.

    `level` is debug, info, warning or error; by default what BDW_FED_LOG says, else warning.
    """
    chosen = (level or os.environ.get("BDW_FED_LOG") or "warning").upper()
    threshold = logging.getLevelNamesMapping().get(chosen, logging.WARNING)
    stream: TextIO = path.open("a", buffering=1) if path else sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            _hide_secrets,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role, name=name)
    logging.basicConfig(stream=stream, level=threshold, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
