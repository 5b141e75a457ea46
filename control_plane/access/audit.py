"""The audit log: who wanted to change what, from where, when, and whether they might. One JSON object a line.

A line is written before the change is made, so that no change is without its line, whatever happens then; a change
whose line can't be written is not made. The file is only appended to; when it has grown to `largest` it is set aside as
FILE.1, and what is older moves on, up to FILE.N.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path

import structlog

from control_plane.access.errors import NotWritten

LARGEST = 64 << 20
KEPT = 10

_log = structlog.get_logger(__name__)


class AuditLog:
    """The lines in `path`; files that are set aside beside it. OSError if it can't be opened."""

    def __init__(self, path: Path, *, largest: int = LARGEST, kept: int = KEPT) -> None:
        self._path = path
        self._largest = largest
        self._kept = kept
        self._file = -1
        self._size = 0
        self._open()

    def write(self, line: Mapping[str, object]) -> None:
        """Append a line, with the time in front. NotWritten."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        data = json.dumps({"at": at, **line}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if self._size and self._size + len(data) > self._largest:
            self._set_aside()
        try:
            written = os.write(self._file, data)
            if written != len(data):
                os.ftruncate(self._file, self._size)  # half a line would spoil the next one
                raise OSError(f"{written} of {len(data)} bytes were written")
        except OSError as error:
            _log.error("the audit log can't be written: changes are refused", path=str(self._path), error=str(error))
            raise NotWritten(f"the hub's audit log can't be written ({error}), so nothing was changed") from error
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _set_aside(self) -> None:
        former = self._file
        try:
            for number in range(self._kept - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))
            self._open()
        except OSError as error:
            _log.error("the audit log can't be set aside: it grows on", path=str(self._path), error=str(error))
            return
        os.close(former)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
