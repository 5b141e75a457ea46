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
from control_plane.kinds import Kinds
from control_plane.patience import persistently
from control_plane.runs import forms, messages
from control_plane.runs.driver import Runs
from control_plane.runs.errors import RunError
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from wire.errors import ProblemError

_LOOK_SECONDS = 30.0  # for what was left by another hub, or could not be submitted

_log = structlog.get_logger(__name__)


class HookRuns:
    """`keep` is run by the hub as long as it lives."""

    def __init__(self, kinds: Kinds, runs: Runs, submissions: Submissions) -> None:
        self._kinds = kinds
        self._runs = runs
        self._submissions = submissions
        self._due: dict[tuple[str, str], m.Run] = {}
        self._something = asyncio.Event()

    def ended(self, run: m.Run) -> None:
        """A run has ended just now."""
        if run.hooks_due:
            self._due[run.namespace, run.name] = run
            self._something.set()

    async def keep(self) -> None:
        """Submit what is due, at once; now and then look whether there is more."""
        while True:
            for run in (await persistently(self._kinds.runs.list, None)).items:
                if run.value.state in forms.ENDED:
                    self.ended(run.value)
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    while True:
                        due, self._due = self._due, {}
                        for each in due.values():
                            await self._begin(each)
                        if not self._due:
                            self._something.clear()
                            await self._something.wait()
            except TimeoutError:
                continue

    async def _begin(self, run: m.Run) -> None:
        for hook in run.hooks_due:
            try:
                await self._submissions.submit_hook(run, hook)
                await self._runs.happened(run.namespace, run.name, messages.HookBegun(hook))
            except ProblemError as error:
                _log.warning("a hook can't be planned yet", run=run.name, hook=hook, error=str(error))
            except (RunError, StoreError, EtcdError) as error:
                _log.info("a hook is not submitted yet", run=run.name, hook=hook, error=str(error))
            except Exception as error:  # what it stands on may be gone; the others must not wait for this one
                _log.warning("a hook can't be submitted", run=run.name, hook=hook, error=str(error))
