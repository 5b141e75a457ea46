"""What the hub wants of this cluster, as events of the core.

An AssignmentSet is the whole truth: what is held and is not in it has been deleted at the hub. So a run that ended
while we were cut off, and was forgotten since, does not stay here for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from bdw_fed.v1.federation_pb2 import AssignmentSet
from bdw_fed.v1.model_pb2 import DESIRED_STATE_FORGOTTEN, DESIRED_STATE_RESERVED, Assignment
from cluster_agent.coordinator.messages import DesiredChanged, Event, FragmentAssigned, RunKey


def assigned(assignment: Assignment) -> Event:
    """One new or changed assignment."""
    return FragmentAssigned(assignment.fragment.SerializeToString(), assignment.desired, assignment.time_to_live)


def all_assigned(assignments: AssignmentSet, held: Iterable[tuple[str, str]]) -> list[Event]:
    """All there are; what is `held` (namespace, run) besides is forgotten first, which makes room.

    Orders to reserve come last: a commit that was missed has its slots before others ask for them.
    """
    wanted = {(each.fragment.namespace, each.fragment.run) for each in assignments.assignments}
    gone: list[Event] = [forgotten(*run) for run in sorted(set(held) - wanted)]
    in_order = sorted(assignments.assignments, key=lambda each: each.desired == DESIRED_STATE_RESERVED)
    return gone + [assigned(each) for each in in_order]


def forgotten(namespace: str, run: str) -> Event:
    """The hub has deleted the run."""
    return DesiredChanged(RunKey(namespace, run), DESIRED_STATE_FORGOTTEN, "the hub has the run no more")
