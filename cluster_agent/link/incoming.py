"""What the hub says, handed to whom it is for: assignments and directory to the core, frames to peers, questions."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from bdw_fed.v1.federation_pb2 import PeerDirectory, SessionResponse
from bdw_fed.v1.model_pb2 import DESIRED_STATE_RUNNING, Assignment
from cluster_agent.bundles import BundleCache
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import PeersKnown
from cluster_agent.coordinator.ports import Core
from cluster_agent.link.assignments import all_assigned, assigned, forgotten
from cluster_agent.link.queries import Answers
from cluster_agent.peer.peers import Peers

DIRECTORY = "peers"
"""The name under which the log keeps the directory, so that peers are found before the hub is."""

_log = structlog.get_logger(__name__)


class Incoming:
    """Remembers what it has handed on and the core has not taken in yet."""

    def __init__(self, cluster: str, core: Core, intake: Intake) -> None:
        self._cluster = cluster
        self._core = core
        self._intake = intake
        self._peers: Peers | None = None
        self._bundles: BundleCache | None = None
        self._assigned: set[tuple[str, str]] = set()
        self._directory = b""

    def serve(self, peers: Peers, bundles: BundleCache) -> None:
        """The peers whose frames pass through the hub, and the bundles that runs will need."""
        self._peers = peers
        self._bundles = bundles

    def take(self, response: SessionResponse, answers: Answers) -> None:
        """A frame of the hub; a duplicate is not given to this."""
        match response.WhichOneof("kind"):
            case "assignments":
                self._expect(response.assignments.assignments)
                for event in all_assigned(response.assignments, self._held()):
                    self._intake.submit(event)
                self._assigned = {
                    (each.fragment.namespace, each.fragment.run) for each in response.assignments.assignments
                }
            case "assign":
                self._expect([response.assign])
                self._assigned.add((response.assign.fragment.namespace, response.assign.fragment.run))
                self._intake.submit(assigned(response.assign))
            case "removed":
                self._assigned.discard((response.removed.namespace, response.removed.run))
                self._intake.submit(forgotten(response.removed.namespace, response.removed.run))
            case "peers":
                self._take_directory(response.peers)
            case "relay":
                relay = response.relay
                if relay.to_cluster != self._cluster:
                    _log.warning("a relayed frame is for another cluster", to=relay.to_cluster)
                elif self._peers is not None:
                    self._peers.relayed(relay.from_cluster, relay.from_generation, relay.frame)
            case "query":
                answers.ask(response.query)
            case "query_cancel":
                answers.cancel(response.query_cancel.id)

    def _held(self) -> set[tuple[str, str]]:
        """The runs of the core, and those on their way to it."""
        return {(namespace, run) for namespace, run, _, _ in self._core.inventory()} | self._assigned

    def _expect(self, assignments: Iterable[Assignment]) -> None:
        """Open the streams to the peers of these runs, so that the first unit need not wait for them; and have the
        bundles of our steps here, so that the hub is not needed any more."""
        for assignment in assignments:
            if self._peers is not None:
                self._peers.expect(sorted(assignment.fragment.epochs))
            if self._bundles is not None and assignment.desired == DESIRED_STATE_RUNNING:
                for step in assignment.fragment.steps:
                    if step.execution.bundle and any(share.cluster == self._cluster for share in step.executors):
                        self._bundles.expect(assignment.fragment.namespace, step.execution.bundle)

    def _take_directory(self, directory: PeerDirectory) -> None:
        body = directory.SerializeToString(deterministic=True)
        if body == self._directory:
            return
        self._directory = body
        self._intake.submit(PeersKnown(body))
        self._intake.keep(DIRECTORY, body)
        if self._peers is not None:
            self._peers.directory(directory)
