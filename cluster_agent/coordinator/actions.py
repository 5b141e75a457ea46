"""What comes out of the coordinator's core: what the driver is to do.

`Append` carries a *record*, the only thing that changes the core's durable state: the driver commits the records of a
whole batch in one transaction, together with the outgoing messages of `SendPeer` and `SendHub` and the numbers of the
incoming ones, and only then performs the other actions. After a restart the core is rebuilt from a snapshot and the
records, and `resume(now)` says again whatever may not have been heard.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.messages import RunKey, Struct
from cluster_agent.orders.messages import Downward, Result

_UNITS_TOLD: Final = 4  # of each port, in an event


class Append(Struct, frozen=True):
    """Commit this record (see `records`), before anything else of the same batch leaves."""

    record: object


class SendPeer(Struct, frozen=True):
    """Put a serialised `bdw_fed.v1.PeerMessage` into the durable outbox to a cluster, with this batch's records."""

    cluster: str
    message: bytes
    run: RunKey  # that it is of


class TellLoad(Struct, frozen=True):
    """Tell another cluster how busy we are, a serialised `bdw_fed.v1.Load`, as soon as it can be reached."""

    cluster: str
    load: bytes


class SendHub(Struct, frozen=True):
    """Put a message into the hub's durable outbox. `kind`: the SessionRequest's field, see `outgoing`."""

    kind: str
    message: bytes  # serialised, of that field's type


class TellNode(Struct, frozen=True):
    """Say this to a node: a serialised `bdw_fed.v1.NodeCommand`, or what is said for each task, many at a time.

    Meant for the stream whose NodeJoined was handled last; lost if that has ended: the next NodeJoined mends it.
    """

    node: str
    command: bytes | Downward
    stream: int = 0


class TaskEnd(Struct, frozen=True):
    """What the event of a task that is done tells."""

    node: str
    result: Result
    inputs: list[list[bytes]]

    @property
    def data(self) -> dict[str, object]:
        """As JSON has it; of the units of each port the first few."""
        result = self.result
        return {
            "node": self.node,
            "attempt": result.attempt,
            "seconds": result.seconds,
            "queued": result.queued,
            "starting": result.starting,
            "bytes": result.bytes_in,
            "units": len(result.outputs),
            "made": [output.unit.id for output in result.outputs[:_UNITS_TOLD]],
            "of": [unit for units in self.inputs for unit in units[:_UNITS_TOLD]],
        }


class Publish(Struct, frozen=True):
    """Put an event on the bus. `type` without the prefix ("task.done"), `data` JSON-like; `ago` seconds it happened.

    It is about the run, or more closely about a step of it, or a task of that step. Most events are never read, so of
    the frequent ones `details` is what the data is made from when somebody asks.
    """

    run: RunKey
    type: str
    step: str
    task: bytes
    details: dict[str, object] | TaskEnd
    ago: float = 0.0

    @property
    def data(self) -> dict[str, object]:
        """What it tells."""
        return self.details.data if isinstance(self.details, TaskEnd) else self.details

    @property
    def subject(self) -> str:
        """What it is about, as a path."""
        subject = f"runs/{self.run.run}/steps/{self.step}"
        return f"{subject}/tasks/{self.task.hex()}" if self.task else subject


class ProgressChanged(Struct, frozen=True):
    """The run's counters changed; the driver tells the hub when its rate allows, by asking `status(run)`."""

    run: RunKey


class Answered(Struct, frozen=True):
    """Who asked under this number may have the answer now, a serialised message: what it tells is in the log."""

    number: int
    answer: bytes


class WakeAt(Struct, frozen=True):
    """Send a `Tick` at this time at the latest (a retry is due, a worker is idle for long). Replaces any former one."""

    at: float


Action = Append | SendPeer | TellLoad | SendHub | TellNode | Publish | ProgressChanged | Answered | WakeAt
