"""What clusters tell each other of what their tasks have made, so that it is known once one of them is lost.

    a unit is offered ─▶ `told`: what its task read, and all that it has made ─▶ Offer.made ─▶ `heard` ─▶ Run.makers
    the run begins again ─▶ `remembering` takes what was told to the end ─▶ Run.known

A list of few units goes with each offer. A longer one is told to each cluster once, some units with each offer that it
gets: so no offer grows with what a task has made, and who is offered a sixteenth of a task's units knows of all. How
far a list was told is not in the log: after a restart it is told from its beginning.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.cache import remembering
from cluster_agent.coordinator.cache.records import Made
from cluster_agent.coordinator.cache.searches import Listing
from cluster_agent.coordinator.fragment import TASK
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import DONE, Known, KnownOutput, Unit
from cluster_agent.orders.messages import Output

MOST: Final = 4_096  # units of a task: who knows of it says all of them in one message
_WITH_AN_OFFER: Final = 16  # of these


def told(live: LiveRun, unit: Unit, cluster: str) -> Made | None:
    """What a cluster that is offered a unit is told of the task that made it: by that it knows it if we are lost."""
    if not live.graph.replace:
        return None
    listing = live.listings.get(unit.task)
    if listing is None:
        made = _forwarded(live, unit) if unit.sender else _ours(live, unit)
        if made is None or made.count <= _WITH_AN_OFFER:
            return made
        listing = live.listings[unit.task] = Listing(made)
    first = listing.told.get(cluster, 0)
    outputs = listing.made.outputs[first : first + _WITH_AN_OFFER]
    if not outputs:
        return None
    listing.told[cluster] = first + len(outputs)
    return Made(listing.made.contents, outputs, first, listing.made.count)


def _ours(live: LiveRun, unit: Unit) -> Made | None:
    """All that a task of ours has made, if it is done, and holds."""
    task = live.run.tasks.get(unit.task)
    if task is None or task.state != DONE or live.graph.steps[task.step].kind != TASK or len(task.outputs) > MOST:
        return None
    known = remembering.result(live, task)
    if known is None or any(each.unit.generation for each in known.outputs):
        return None
    return _whole(known)


def _forwarded(live: LiveRun, unit: Unit) -> Made | None:
    """What we were told ourselves, if that was all."""
    known = live.run.makers.get(unit.task)
    return _whole(known) if known is not None and not known.lacking else None


def _whole(known: Known) -> Made:
    outputs = tuple(Output(each.port, each.index, each.unit) for each in known.outputs)
    return Made(known.inputs, outputs, 0, len(outputs))


def heard(live: LiveRun, task: bytes, made: Made) -> None:
    """Another cluster has told what a task of its has made. Part of applying a record."""
    if not live.graph.replace:
        return
    known = live.run.makers.get(task)
    if known is None:
        known = live.run.makers[task] = Known(made.contents, [], lacking=made.count)
    so_far = len(known.outputs)
    if made.first > so_far or made.contents != known.inputs:
        return  # what comes before these was in an offer that was not heard
    for each in made.outputs[so_far - made.first :]:
        known.outputs.append(KnownOutput(each.port, each.index, each.unit, []))
    known.lacking = max(0, made.count - len(known.outputs))
