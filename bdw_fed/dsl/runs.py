"""A run that was started from Python: followed with its progress in view, in a notebook or on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdw_fed.cli import progress
from bdw_fed.client import SyncClient
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client import Downloaded


class RunFailed(Exception):
    """The run has ended, but not well; `run` is what is known of it."""

    def __init__(self, run: model.Run) -> None:
        super().__init__(progress.ending(run))
        self.run = run


class Run:
    """A run by its name. Without `client` each call asks the hub that `bdw-fed` would ask."""

    def __init__(self, name: str, client: SyncClient | None = None) -> None:
        self.name = name
        self._client = client

    def wait(self) -> model.Run:
        """Show the run until it has ended; RunFailed unless it has succeeded.

        In a notebook that is a table which changes in place, on a terminal the one of `bdw-fed watch`, else lines.
        """
        with self._asked() as client:
            ended = progress.watched(client, self.name, _NotebookView() if in_notebook() else None)
        print(progress.ending(ended))
        if progress.code_of(ended):
            raise RunFailed(ended)
        return ended

    def state(self) -> model.Run:
        """The run as it is now."""
        with self._asked() as client:
            return client.get_run(self.name)

    def cancel(self) -> None:
        """Stop the run for good."""
        with self._asked() as client:
            client.cancel(self.name)

    def download(self, to: str | Path, *names: str) -> Sequence[Downloaded]:
        """Save its outputs (or those named) into a directory."""
        with self._asked() as client:
            return client.download(self.name, Path(to), names=names)

    def __repr__(self) -> str:
        return f"<run {self.name}>"

    def _asked(self) -> AbstractContextManager[SyncClient]:
        return SyncClient() if self._client is None else nullcontext(self._client)


def in_notebook() -> bool:
    """Whether what is shown goes to a notebook's page."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class _NotebookView:
    """The table of `bdw-fed watch` on a notebook's page, drawn again in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, run: model.Run, expected: dict[str, float]) -> None:
        from IPython.display import display

        table = progress.drawn(run, expected)
        if self._handle is None:
            self._handle = display(table, display_id=True)
        else:
            self._handle.update(table)
