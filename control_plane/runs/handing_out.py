"""How a run is handed out that does not fit into one transaction with its fragments.

    stored as PENDING, with the hub that hands it out ─ its fragments, some at a time ─▶ RUNNING
         │ somebody cancels it, or its hub is gone and another one gives it up
         └─▶ STOPPING ─ the fragments that were never handed out have ended ─▶ CANCELLED | FAILED

Each group of fragments is written on the condition that the run is as it was read, and PENDING. So once it is STOPPING
no fragment of it can come to be any more, and those that are missing are missing for good.
"""

from __future__ import annotations

from collections.abc import Sequence

from bdw_fed.v1 import model_pb2 as m
from control_plane.kinds import Kinds, batches
from control_plane.runs.forms import FRAGMENT_ENDED
from control_plane.store.errors import Conflict
from control_plane.store.keys import Key
from control_plane.store.transaction import Operation

_AT_ONCE = 64


async def hand_out(kinds: Kinds, run: Key, revision: int, fragments: Sequence[Operation]) -> bool:
    """Write the fragments of a run that is PENDING at this revision; whether it still was with the last of them.

    Agents accept fragments meanwhile, which changes the run: then it is read again.
    """
    for batch in batches(fragments):
        written = False
        while not written:
            try:
                await kinds.commit([kinds.runs.unchanged(run, revision), *batch])
                written = True
            except Conflict as conflict:
                if conflict.key != str(run):
                    raise
                stored = await kinds.runs.get(run)
                if stored is None or stored.value.state != m.RUN_STATE_PENDING:
                    return False
                revision = stored.revision
    return True


async def never_handed_out(kinds: Kinds, run: m.Run) -> list[str]:
    """The clusters whose part in the run, which is not PENDING any more, was never handed out and never will be."""
    going = sorted(name for name, part in run.fragments.items() if part.state not in FRAGMENT_ENDED)
    missing = []
    for at in range(0, len(going), _AT_ONCE):
        keys = {name: kinds.fragments.key(name, run.namespace, run.name) for name in going[at : at + _AT_ONCE]}
        look = await kinds.look(list(keys.values()))
        missing += [name for name, key in keys.items() if kinds.fragments.seen(look, key) is None]
    return missing
