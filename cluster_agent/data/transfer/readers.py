"""Who may read which units of a node: its own cluster, the clusters of the unit's run, and users with the hub's permit.

The coordinator tells its nodes which clusters take part in each run (`node_pb2.Members`). A unit whose run was not told
of is not given to other clusters: the word is on its way, or will come when the coordinator is back, so they ask again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

from bdw_fed.v1 import node_pb2
from wire.identity.roles import Identity, Role
from wire.lines import run_of
from wire.permits import PermitError, checked

_MEMBERS = frozenset([Role.NODE, Role.AGENT])


class ReaderRefusedError(Exception):
    """The caller may not read this; `status` is HTTP's."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class Readers:
    """The clusters of each run. Told on the event loop, asked by threads."""

    def __init__(self, cluster: str, ca: Path) -> None:
        self._cluster = cluster
        self._ca = ca
        self._runs: dict[tuple[str, str], frozenset[str]] = {}

    def told(self, members: node_pb2.Members) -> None:
        """What the coordinator says."""
        runs: Iterable[node_pb2.RunMembers] = members.runs
        fresh = {(each.namespace, each.run): frozenset(each.clusters) for each in runs}
        self._runs = fresh if members.all else {**self._runs, **fresh}

    def run_ended(self, namespace: str, run: str) -> None:
        """Its units are for nobody but users any more."""
        self._runs = {key: clusters for key, clusters in self._runs.items() if key != (namespace, run)}

    def judge(self, caller: Identity | None, authorization: str, namespace: str, run: str) -> None:
        """ReaderRefusedError if this caller may not read the run's units. Without a certificate there is None."""
        if caller is not None and caller.role in _MEMBERS:
            self._judge_member(caller, namespace, run)
        elif caller is None or caller.role is Role.USER:
            self._judge_user(caller, authorization, namespace, run)
        else:
            raise ReaderRefusedError(
                HTTPStatus.FORBIDDEN, f"{caller} may not do this: it is for nodes, agents and users"
            )

    def _judge_member(self, caller: Identity, namespace: str, run: str) -> None:
        if caller.cluster == self._cluster:
            return
        clusters = self._runs.get((namespace, run))
        if clusters is None:
            raise ReaderRefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{self._cluster} does not know which clusters take part in the run"
            )
        if caller.cluster not in clusters:
            raise ReaderRefusedError(HTTPStatus.FORBIDDEN, f"{caller.cluster} does not take part in the run {run}")

    def _judge_user(self, caller: Identity | None, authorization: str, namespace: str, run: str) -> None:
        try:
            permit = checked(authorization, self._ca, now=time.time())
        except PermitError as error:
            status = HTTPStatus.UNAUTHORIZED if caller is None else HTTPStatus.FORBIDDEN
            raise ReaderRefusedError(status, str(error)) from error
        if (permit.namespace, permit.run) != (namespace, run_of(run)):
            raise ReaderRefusedError(HTTPStatus.FORBIDDEN, "the permit is for another run")
        if caller is not None and permit.user != caller.name:
            raise ReaderRefusedError(HTTPStatus.FORBIDDEN, f"the permit is that of {permit.user}, not of {caller.name}")
