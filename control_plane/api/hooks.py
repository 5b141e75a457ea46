"""Executes the hooks of runs that have ended: each is submitted as a run of its own.

    a run ends ─▶ `hooks_due` in the run ─▶ submitted, under a key that is the same whoever does it ─▶ HookBegun

What is due stands in the run that has ended, so that a hub that starts finds what another one has left. Two hubs that
submit the same hook make one run.
"""

from __future__ import annotations

import asyncio

import structlog

from bdw_fed.v1 import model_pb2 as m
from control_plane.api.submitting import Submissions
from control_plane.runs import messages
from control_plane.runs.driver import Runs
from control_plane.runs.errors import NoSuchRun

_AGAIN_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class HookRuns:
    """`keep` is run by the hub as long as it lives."""

    def __init__(self, runs: Runs, submissions: Submissions) -> None:
        self._runs = runs
        self._submissions = submissions
        self._due: dict[tuple[str, str], None] = {}
        self._something = asyncio.Event()

    def ended(self, run: m.Run) -> None:
        """A run has ended, just now or before this hub has started."""
        if run.hooks_due:
            self._due[run.namespace, run.name] = None
            self._something.set()

    async def keep(self) -> None:
        """Submit what is due, at once; what could not be submitted is tried again."""
        while True:
            await self._something.wait()
            self._something.clear()
            due, self._due = self._due, {}
            for name in due:
                if not await self._begin(*name):
                    self._due[name] = None
            if self._due:
                asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._something.set)

    async def _begin(self, namespace: str, name: str) -> bool:
        """Whether nothing of the run is due any more."""
        try:
            run = await self._runs.get(namespace, name)
            for hook in run.hooks_due:
                await self._submissions.submit_hook(run, hook)
                await self._runs.happened(namespace, name, messages.HookBegun(hook))
        except NoSuchRun:
            return True
        except Exception as error:  # what it stands on may be gone; the others must not wait for this one
            _log.warning("the hooks of a run can't be submitted yet", run=name, error=str(error))
            return False
        return True
