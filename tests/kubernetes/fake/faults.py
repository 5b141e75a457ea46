"""What goes wrong on purpose: answers that are errors, answers that get lost, watches that are cut or fall silent."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.kubernetes.fake.statuses import REASONS, Refused


@dataclass
class Fault:
    """Strikes `times` requests of this method whose address ends so (and which are watches, or not)."""

    times: int
    method: str = ""
    path: str = ""
    watch: bool | None = None
    status: int = 0  # answered in place of the answer; 0 = the connection is cut
    retry_after: int | None = None
    message: str = ""
    page: str = ""  # what somebody in between answers, who is no API server
    after: bool = False  # the request is executed first, and only its answer is lost
    event: bool = False  # a watch is opened, and told the error by an event


@dataclass
class Faults:
    """Those that are waiting, in order; each request is struck by the first that fits."""

    waiting: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        self.waiting.append(fault)

    def strike(self, method: str, path: str, watch: bool) -> Fault | None:
        for fault in self.waiting:
            if fault.method in ("", method) and path.endswith(fault.path) and fault.watch in (None, watch):
                fault.times -= 1
                if not fault.times:
                    self.waiting.remove(fault)
                return fault
        return None


def refusal(fault: Fault) -> Refused:
    reason = REASONS[fault.status]
    details = {} if fault.retry_after is None else {"retryAfterSeconds": fault.retry_after}
    return Refused(reason, fault.message or f"injected {reason}", **details)
