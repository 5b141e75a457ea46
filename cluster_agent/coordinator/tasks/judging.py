"""Whether a failed attempt is followed by another, and after which wait: what a step's `retry` says. Pure questions.

What the step itself did uses up an attempt; what happened to it (a lost node, bytes that did not come) does not. `on`
narrows down what of the former is tried again; `not_on` names what is never tried again, also of the latter, for steps
that must not be executed twice.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.fragment import Step
from cluster_agent.orders.messages import Failure
from wire.digests import bytes_digest

_PARTS: Final = 1 << 32


def may_try_again(step: Step, failure: Failure, *, blamed: bool) -> bool:
    """Whether the step wants another attempt after this one, if it has any left. `blamed`: it was the step's fault."""
    kinds = {failure.kind, f"{failure.kind}:{failure.code}"}
    if kinds & step.not_on:
        return False
    return not blamed or not step.on or bool(kinds & step.on)


def wait_after(step: Step, task: bytes, failed: int) -> float:
    """Seconds after so many attempts that failed; shortened by chance, which is the same whenever it is asked."""
    try:
        wait = min(step.max_backoff, step.backoff * step.factor ** (failed - 1))
    except OverflowError:
        wait = step.max_backoff
    if not step.jitter:
        return wait
    chance = int.from_bytes(bytes_digest(task + failed.to_bytes(4, "big"))[:4], "big") / _PARTS
    return wait * (1.0 - step.jitter * chance)
