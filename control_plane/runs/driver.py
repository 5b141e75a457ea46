"""The runs in the store: how they are made, read, changed and forgotten.

What a run and its fragments need to exist goes into one transaction where it fits. Where it does not, the run is stored
as PENDING first, its fragments after it, and then it RUNs (`handing_out`). What is wanted of fragments follows the run
in transactions of its own, where there are many; what a crash leaves in between is made good by `mend`, which the hub
calls when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds, fit_together, submission_name, writing
from control_plane.patience import REQUEST_SECONDS, persistently
from control_plane.runs import core, ending, forms, lines, messages
from control_plane.runs.errors import NoSuchRun, Refused, RunExists
from control_plane.runs.handing_out import hand_out, never_handed_out
from control_plane.runs.writing import EventOf, Outcome, RunWriter, desired_operations, wanting
from control_plane.store.base import Stored
from control_plane.store.errors import AlreadyExists
from control_plane.store.keys import Key
from control_plane.store.transaction import Operation
from wire.lines import run_of

_ABANDONED = "it was not handed out to the end, because its hub or the store was gone: submit it again"


class Runs:
    """All runs of this hub's store. `hub_id` is this hub's."""

    def __init__(self, kinds: Kinds, hub_id: bytes = b"") -> None:
        self._kinds = kinds
        self._hub_id = hub_id
        self._writer = RunWriter(kinds)
        self._handing_out: set[tuple[str, str]] = set()

    async def get(self, namespace: str, name: str) -> m.Run:
        """The run as stored. NoSuchRun if there is none."""
        return (await self._there(namespace, name)).value

    async def outputs(self, run: m.Run, line: m.Run | m.RunLine | None = None) -> list[m.RunOutput]:
        """All outputs that the run's fragments have told of, or those of a line, in the order people see them.

        Those of fragments that were replaced are none.
        """
        pieces = await self._kinds.outputs.list(run.namespace, run.name)
        return forms.published(
            output
            for piece in pieces.items
            if forms.counts(line or run, piece.key.names[2], int(piece.key.names[3]))
            for output in piece.value.outputs
        )

    async def submitted_before(self, namespace: str, key_digest: str) -> m.Run | None:
        """The run that an earlier submission with the same key has made, if it is still there."""
        submission = await self._submission(namespace, key_digest)
        stored = submission and await self._stored(namespace, submission.value.run)
        return stored.value if stored else None

    async def submit(
        self, run: m.Run, planned: messages.Planned | messages.Queued, also: Sequence[Operation] = ()
    ) -> m.Run:
        """Store a run, with its fragments unless it is queued; a repetition with the same key gives what is there.

        `also`: conditions of the same transaction. RunExists if the name is taken, Conflict if a condition fails.
        """
        try:
            return await self._make(run, planned, also, None)
        except AlreadyExists:
            earlier = await self._submission(run.namespace, submission_name(run.idempotency_key))
            if earlier and (made := await self._stored(run.namespace, earlier.value.run)):
                return made.value
            if await self._stored(run.namespace, run.name) is not None:
                raise RunExists(f"there is a run {run.name} already in namespace {run.namespace}") from None
            return await self._make(run, planned, also, earlier)

    async def _make(
        self,
        run: m.Run,
        planned: messages.Planned | messages.Queued,
        also: Sequence[Operation],
        earlier: Stored[s.Submission] | None,
    ) -> m.Run:
        """Store the run; `earlier`: its key has made another one, which is gone. AlreadyExists if either is there."""
        pending = _stored_run(core.handle(None, messages.Submitted(run)))
        fragments = self._fragments(planned.fragments) if isinstance(planned, messages.Planned) else []
        result = _stored_run(core.handle(pending, planned))
        key = self._kinds.submissions.key(run.namespace, submission_name(run.idempotency_key))
        submission = s.Submission(run=run.name, key=run.idempotency_key)
        operations = [
            self._kinds.runs.creating(self._key(run), result),
            writing(self._kinds.submissions, key, earlier, submission),
            *also,
        ]
        if isinstance(planned, messages.Queued) or fit_together([*operations, *fragments]):
            revision = await self._kinds.commit([*operations, *fragments])
            self._writer.remember(operations[0].key, result, revision)
            return result
        result = _stored_run(core.handle(pending, replace(planned, handed_out=False)))
        result.handed_out_by = self._hub_id
        operations[0] = self._kinds.runs.creating(self._key(run), result)
        name = (run.namespace, run.name)
        self._handing_out.add(name)
        try:
            revision = await self._kinds.commit(operations)
            if await hand_out(self._kinds, self._key(run), revision, fragments):
                return await self.happened(*name, planned)
        finally:
            self._handing_out.discard(name)
        return await self.give_up(*name, planned.at)

    def hands_out(self, namespace: str, name: str) -> bool:
        """Whether this hub hands the run out just now."""
        return (namespace, name) in self._handing_out

    async def give_up(self, namespace: str, name: str, at: float) -> m.Run:
        """Stop a run that was not handed out to the end; its parts that nobody has have ended. Returns it as it is."""
        run = await self.happened(namespace, name, messages.Abandoned(_ABANDONED, at))
        if run.state != m.RUN_STATE_STOPPING:
            return run
        for cluster in await never_handed_out(self._kinds, run):
            status = m.FragmentStatus()
            status.CopyFrom(run.fragments[cluster])
            status.state = m.FRAGMENT_STATE_CANCELLED
            await self.happened(namespace, name, messages.FragmentEnded(status, 0, at, ()))
        return await self.get(namespace, name)

    async def happened(
        self, namespace: str, name: str, event: messages.Event, *, seconds: float | None = REQUEST_SECONDS
    ) -> m.Run:
        """Let something happen to a run; returns it as it is then. NoSuchRun, or Refused with the reason."""

        async def same(_: m.Run) -> messages.Event:
            return event

        outcome = await persistently(lambda: self._writer.happen(namespace, name, same), seconds)
        if outcome.run is None:
            raise _no_such_run(namespace, name)
        return outcome.run

    async def happen(self, namespace: str, name: str, event_of: EventOf, also: Sequence[Operation] = ()) -> Outcome:
        """One attempt of the same, with an event that depends on the run: see RunWriter."""
        return await self._writer.happen(namespace, name, event_of, also)

    async def mend(self) -> None:
        """Make what is wanted of all fragments fit their runs, where a crash came between. At the hub's start only.

        Runs go on meanwhile, and are written before what is wanted of their fragments. So the fragments are read first:
        what a run says then is as new, and a fragment that is written after it is left alone.
        """
        fragments = (await self._kinds.fragments.list()).items
        listing = await self._kinds.runs.list()
        runs = {(each.value.namespace, each.value.name): each.value for each in listing.items}
        for stored in fragments:
            fragment = stored.value.fragment
            run = runs.get((fragment.namespace, run_of(fragment.run)))
            counted = run is not None and _is_of(run, fragment)
            desired = run.desired if run is not None and counted else m.DESIRED_STATE_FORGOTTEN
            concerned = run is None or not counted or _is_concerned(run, fragment)
            if stored.value.desired == m.DESIRED_STATE_RESERVED and run is not None and not _attempts(run, fragment):
                await self._kinds.commit([self._kinds.fragments.deleting(stored.key, stored.revision)])
            elif concerned and stored.value.desired != desired:
                await self._kinds.commit([wanting(self._kinds, stored, desired)])

    async def delete(self, namespace: str, name: str) -> m.Run:
        """Forget an ended run; returns it. Its fragments stay as FORGOTTEN until their agents have heard it."""

        async def attempt() -> m.Run:
            stored = await self._there(namespace, name)
            if stored.value.state not in forms.ENDED:
                raise Refused(f"the run {name} has not ended: cancel it first")
            line = lines.name_of(stored.value)
            forgotten = {(line, cluster): m.DESIRED_STATE_FORGOTTEN for cluster in stored.value.fragments}
            operations = await desired_operations(self._kinds, stored.value, forgotten)
            for piece in (await self._kinds.outputs.list(namespace, name)).items:
                operations.append(self._kinds.outputs.deleting(piece.key, piece.revision))
            submission = await self._submission(namespace, submission_name(stored.value.idempotency_key))
            if submission is not None and submission.value.run == name:
                operations.append(self._kinds.submissions.deleting(submission.key, submission.revision))
            if plan := await self._kinds.plans.get(self._kinds.plans.key(namespace, name)):
                operations.append(self._kinds.plans.deleting(plan.key, plan.revision))
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


def _stored_run(actions: Sequence[messages.Action]) -> m.Run:
    return next(action.run for action in actions if isinstance(action, messages.StoreRun))


def _attempts(run: m.Run, fragment: m.Fragment) -> bool:
    """Whether the run reserves this fragment just now, or has got it."""
    kept = run.fragments.get(fragment.cluster)
    return kept is not None and kept.epoch == fragment.epoch


def _is_of(run: m.Run, fragment: m.Fragment) -> bool:
    """Whether the fragment is of a line of the run that may count."""
    return fragment.run == lines.name_of(run) or (run.HasField("original") and fragment.run == run.original.line)


def _is_concerned(run: m.Run, fragment: m.Fragment) -> bool:
    if run.HasField("original") and fragment.run == run.original.line:
        return fragment.cluster in lines.going(run.original)
    return fragment.cluster in ending.concerned(run)


def _no_such_run(namespace: str, name: str) -> NoSuchRun:
    return NoSuchRun(f"there is no run {name} in namespace {namespace}")
