"""The runs in the store: what the core decides is committed here, on the condition that the run is as it was read.

    read the run ─▶ core.handle ─▶ a decision ─▶ one transaction ─▶ (Conflict: read again)

Whoever has more to write in the same transaction (the number of the frame that brought the news) takes the decision of
`decide` and commits it with its own. What is too large for one transaction is written in turn: outputs before the run
that counts them, and what is wanted of fragments after it; what a crash left out of the latter is made good by
`mend`, which the hub calls when it starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds, fit_together, piece_name, submission_name, writing
from control_plane.patience import REQUEST_SECONDS, persistently
from control_plane.runs import core, forms, messages
from control_plane.runs.errors import NoSuchRun, Refused, RunExists
from control_plane.store.base import Stored
from control_plane.store.keys import Key
from control_plane.store.transaction import Operation

_OUTPUTS_A_PIECE = 400
_MOST_RUN_BYTES = 200 << 10
EventOf = Callable[[m.Run], Awaitable[messages.Event]]


@dataclass(frozen=True)
class Decision:
    """What is to be written, and the run as it is then (None: there is none).

    `early` may be written before the rest, because it says nothing alone; `late` after it, because `mend` would.
    """

    run: m.Run | None
    early: list[Operation] = field(default_factory=list)
    writes: list[Operation] = field(default_factory=list)
    late: list[Operation] = field(default_factory=list)


class Runs:
    """All runs of this hub's store."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def get(self, namespace: str, name: str) -> m.Run:
        """The run as stored. NoSuchRun if there is none."""
        return (await self._there(namespace, name)).value

    async def outputs(self, namespace: str, name: str) -> list[m.RunOutput]:
        """All outputs that the run's fragments have told of, in the order people see them."""
        pieces = await self._kinds.outputs.list(namespace, name)
        return forms.published(output for piece in pieces.items for output in piece.value.outputs)

    async def submitted_before(self, namespace: str, key_digest: str) -> m.Run | None:
        """The run that an earlier submission with the same key has made, if it is still there."""
        submission = await self._submission(namespace, key_digest)
        stored = submission and await self._stored(namespace, submission.value.run)
        return stored.value if stored else None

    async def submit(self, run: m.Run, planned: messages.Planned, also: Sequence[Operation] = ()) -> m.Run:
        """Store a run with its fragments; a repetition with the same idempotency key gives what is there.

        `also`: conditions of the same transaction. RunExists if the name is taken, Conflict if a condition fails.
        """
        digest = submission_name(run.idempotency_key)
        earlier = await self._submission(run.namespace, digest)
        if earlier and (made := await self._stored(run.namespace, earlier.value.run)):
            return made.value
        pending = _stored_run(core.handle(None, messages.Submitted(run)))
        fragments = self._fragments(planned.fragments)
        result = _stored_run(core.handle(pending, planned))
        key = self._kinds.submissions.key(run.namespace, digest)
        submission = s.Submission(run=run.name, key=run.idempotency_key)
        operations = [
            self._kinds.runs.creating(self._key(run), result),
            writing(self._kinds.submissions, key, earlier, submission),
            *also,
        ]
        at_once = fit_together([*operations, *fragments])
        if not at_once:
            result = _stored_run(core.handle(pending, replace(planned, handed_out=False)))
            operations[0] = self._kinds.runs.creating(self._key(run), result)
        if await self._stored(run.namespace, run.name) is not None:
            raise RunExists(f"there is a run {run.name} already in namespace {run.namespace}")
        await self._kinds.commit([*operations, *fragments] if at_once else operations)
        if at_once:
            return result
        await self._kinds.commit_in_turn(fragments)
        return await self.happened(run.namespace, run.name, planned)

    async def happened(
        self, namespace: str, name: str, event: messages.Event, *, seconds: float | None = REQUEST_SECONDS
    ) -> m.Run:
        """Let something happen to a run; returns it as it is then. NoSuchRun, or Refused with the reason."""

        async def same(_: m.Run) -> messages.Event:
            return event

        async def attempt() -> m.Run:
            decision = await self.decide(namespace, name, same)
            if decision.run is None:
                raise _no_such_run(namespace, name)
            await self.commit(decision)
            return decision.run

        return await persistently(attempt, seconds)

    async def decide(self, namespace: str, name: str, event_of: EventOf) -> Decision:
        """What is to be written when the event that `event_of` makes of the run happens. Raises Refused."""
        stored = await self._stored(namespace, name)
        if stored is None:
            return Decision(None)
        decision = Decision(stored.value)
        for action in core.handle(stored.value, await event_of(stored.value)):
            match action:
                case messages.Refuse(message):
                    raise Refused(message)
                case messages.StoreRun(run):
                    small = forms.compacted(run, _MOST_RUN_BYTES)
                    decision = replace(decision, run=small)
                    decision.writes.append(self._kinds.runs.updating(stored.key, small, stored.revision))
                case messages.SetDesired(clusters, desired):
                    decision.late.extend(await self._desired(stored.value, clusters, desired))
                case messages.StoreOutputs():
                    decision.early.extend(await self._outputs(stored.value, action))
                case messages.StoreFragments():
                    pass  # handed out by `submit`
        if decision.run is stored.value and (decision.early or decision.late):
            decision.writes.append(self._kinds.runs.unchanged(stored.key, stored.revision))
        return decision

    async def commit(self, decision: Decision, also: Sequence[Operation] = ()) -> int:
        """Commit a decision, with whatever else belongs into the same transaction. Raises Conflict.

        Returns the revision of `also`; 0 if there was nothing to write.
        """
        with_run = [*decision.writes, *also]
        together = [*with_run, *decision.early, *decision.late]
        if fit_together(together):
            return await self._kinds.commit(together) if together else 0
        await self._kinds.commit_in_turn(decision.early)
        revision = await self._kinds.commit(with_run)
        await self._kinds.commit_in_turn(decision.late)
        return revision

    async def mend(self, at: float) -> None:
        """Make what is wanted of all fragments fit their runs, where a crash came between. At the hub's start only."""
        listing = await self._kinds.runs.list()
        runs = {(each.value.namespace, each.value.name): each.value for each in listing.items}
        handed_out: dict[tuple[str, str], set[str]] = {}
        for stored in (await self._kinds.fragments.list()).items:
            fragment = stored.value.fragment
            handed_out.setdefault((fragment.namespace, fragment.run), set()).add(fragment.cluster)
            run = runs.get((fragment.namespace, fragment.run))
            desired = run.desired if run is not None else m.DESIRED_STATE_FORGOTTEN
            concerned = run is None or fragment.cluster in core.concerned(run)
            if concerned and stored.value.desired != desired:
                await self._kinds.commit([self._wanting(stored, desired)])
        for name, run in runs.items():
            if run.state == m.RUN_STATE_PENDING:
                await self._abandon(run, run.fragments.keys() - handed_out.get(name, set()), at)

    async def _abandon(self, run: m.Run, never_handed_out: set[str], at: float) -> None:
        reason = "the hub ended while it handed this run out: submit it again"
        await self.happened(run.namespace, run.name, messages.Abandoned(reason, at))
        for cluster in never_handed_out:
            status = m.FragmentStatus()
            status.CopyFrom(run.fragments[cluster])
            status.state = m.FRAGMENT_STATE_CANCELLED
            await self.happened(run.namespace, run.name, messages.FragmentEnded(status, 0, at, ()))

    async def delete(self, namespace: str, name: str) -> m.Run:
        """Forget an ended run; returns it. Its fragments stay as FORGOTTEN until their agents have heard it."""

        async def attempt() -> m.Run:
            stored = await self._there(namespace, name)
            if stored.value.state not in forms.ENDED:
                raise Refused(f"the run {name} has not ended: cancel it first")
            clusters = tuple(sorted(stored.value.fragments))
            operations = await self._desired(stored.value, clusters, m.DESIRED_STATE_FORGOTTEN)
            for piece in (await self._kinds.outputs.list(namespace, name)).items:
                operations.append(self._kinds.outputs.deleting(piece.key, piece.revision))
            submission = await self._submission(namespace, submission_name(stored.value.idempotency_key))
            if submission is not None and submission.value.run == name:
                operations.append(self._kinds.submissions.deleting(submission.key, submission.revision))
            operations.append(self._kinds.runs.deleting(stored.key, stored.revision))  # last, if they go in turn
            await self._kinds.commit_in_turn(operations)
            return stored.value

        return await persistently(attempt)

    def _key(self, run: m.Run) -> Key:
        return self._kinds.runs.key(run.namespace, run.name)

    async def _stored(self, namespace: str, name: str) -> Stored[m.Run] | None:
        return await self._kinds.runs.get(self._kinds.runs.key(namespace, name))

    async def _there(self, namespace: str, name: str) -> Stored[m.Run]:
        stored = await self._stored(namespace, name)
        if stored is None:
            raise _no_such_run(namespace, name)
        return stored

    async def _submission(self, namespace: str, key_digest: str) -> Stored[s.Submission] | None:
        return await self._kinds.submissions.get(self._kinds.submissions.key(namespace, key_digest))

    def _fragments(self, fragments: Sequence[m.Fragment]) -> list[Operation]:
        repository = self._kinds.fragments
        return [
            repository.creating(
                repository.key(fragment.cluster, fragment.namespace, fragment.run),
                m.Assignment(fragment=fragment, desired=m.DESIRED_STATE_RUNNING),
            )
            for fragment in fragments
        ]

    async def _desired(self, run: m.Run, clusters: Sequence[str], desired: m.DesiredState.ValueType) -> list[Operation]:
        repository = self._kinds.fragments
        operations = []
        for cluster in clusters:
            stored = await repository.get(repository.key(cluster, run.namespace, run.name))
            if stored is not None and stored.value.desired != desired:
                operations.append(self._wanting(stored, desired))
        return operations

    def _wanting(self, stored: Stored[m.Assignment], desired: m.DesiredState.ValueType) -> Operation:
        wanted = m.Assignment(fragment=stored.value.fragment, desired=desired)
        return self._kinds.fragments.updating(stored.key, wanted, stored.revision)

    async def _outputs(self, run: m.Run, action: messages.StoreOutputs) -> list[Operation]:
        repository = self._kinds.outputs
        operations = []
        for at in range(0, len(action.outputs), _OUTPUTS_A_PIECE):
            name = piece_name(action.number, at // _OUTPUTS_A_PIECE)
            key = repository.key(run.namespace, run.name, action.cluster, str(action.epoch), name)
            piece = s.RunOutputs(outputs=action.outputs[at : at + _OUTPUTS_A_PIECE])
            stored = await repository.get(key)
            if stored is None or stored.value != piece:
                operations.append(writing(repository, key, stored, piece))
        return operations


def _stored_run(actions: Sequence[messages.Action]) -> m.Run:
    return next(action.run for action in actions if isinstance(action, messages.StoreRun))


def _no_such_run(namespace: str, name: str) -> NoSuchRun:
    return NoSuchRun(f"there is no run {name} in namespace {namespace}")
