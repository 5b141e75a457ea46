"""Whether another run may be opened in a namespace whose quota bounds how many are open at once. Else it is refused.

Two hubs may be asked at once, and neither has heard of the other's run yet. So who is let in is written into a list of
the namespace, in the transaction that makes the run, on the condition that nobody else was let in since it was read.
Runs that are not in it (from before there was a quota) are known from the board. A run is counted out only after the
store itself has said that it has ended.

Runs that execute hooks are neither counted nor refused: they belong to a run that was let in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds, writing
from control_plane.quotas.limits import Quotas
from control_plane.runs import forms
from control_plane.runs.errors import Refused
from control_plane.store.transaction import Operation

_LOOKED_UP = 100  # runs in one look at the store
_NAMED = 5


class Admission:
    """`live` gives the runs that have not ended, as far as this hub has heard."""

    def __init__(self, kinds: Kinds, quotas: Quotas, live: Callable[[], Sequence[m.Run]]) -> None:
        self._kinds = kinds
        self._quotas = quotas
        self._live = live

    def storage(self, namespace: str) -> int:
        """Bytes that the namespace's runs may have stored on each cluster; 0 = as many as they like."""
        return self._quotas.of(namespace).storage or 0

    async def admit(self, namespace: str, run: str) -> list[Operation]:
        """The writes that let a run in, for the transaction that opens it. Refused if the namespace has its number."""
        most = self._quotas.of(namespace).runs
        if most is None:
            return []
        key = self._kinds.admissions.key(namespace)
        before = await self._kinds.admissions.get(key)
        admitted = {*before.value.runs} if before is not None else set()
        live = {each.name for each in self._live() if each.namespace == namespace and not each.hook_of}
        open_runs = live | admitted
        # What this hub has heard of may have ended by now, and what it has not heard of may have ended long ago.
        doubtful = open_runs if len(open_runs) >= most else admitted - live
        open_runs = (open_runs - doubtful) | await self._open(namespace, sorted(doubtful))
        open_runs.discard(run)
        if len(open_runs) >= most:
            raise Refused(_words(namespace, most, sorted(open_runs)))
        return [writing(self._kinds.admissions, key, before, s.Admissions(runs=sorted({*open_runs, run})))]

    async def _open(self, namespace: str, names: Sequence[str]) -> set[str]:
        """Those of the runs that have not ended, as the store has them."""
        runs = self._kinds.runs
        found: set[str] = set()
        for begin in range(0, len(names), _LOOKED_UP):
            keys = [runs.key(namespace, name) for name in names[begin : begin + _LOOKED_UP]]
            look = await self._kinds.look(keys)
            found |= {seen.value.name for key in keys if (seen := runs.seen(look, key)) and _is_open(seen.value)}
        return found


def _is_open(run: m.Run) -> bool:
    return run.state not in forms.ENDED


def _words(namespace: str, most: int, names: Iterable[str]) -> str:
    named = list(names)
    shown = ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} others" if len(named) > _NAMED else "")
    told = f" ({shown})" if named else ""
    runs = "run" if most == 1 else "runs"
    return (
        f"namespace {namespace} may have {most} {runs} open at once, and has {len(named)}{told}: wait until one has "
        "ended, cancel one, or have an operator raise the quota (kind: Quota)"
    )
