"""How long what a run has made is kept, as the hub reckons it."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs.expiry import expires_at
from control_plane.runs.forms import kept_until, take_part

DAY = 86_400.0


def part(cluster: str, **retain: float) -> m.Fragment:
    steps = [
        m.Step(name=f"outputs.{name}", execution=m.Execution(output=m.Execution.Output(retain=seconds)))
        for name, seconds in retain.items()
    ]
    return m.Fragment(cluster=cluster, steps=[m.Step(name="work"), *steps])


def test_an_output_is_kept_from_the_end_of_the_run_on() -> None:
    run = m.Run()
    assert kept_until(run, m.RunOutput(retain=DAY)) == 0.0
    run.ended_at = 1000.0
    assert kept_until(run, m.RunOutput(retain=DAY)) == 1000.0 + DAY
    assert kept_until(run, m.RunOutput()) == 0.0


def test_a_run_does_not_expire_before_the_output_that_is_kept_longest() -> None:
    run = m.Run(ended_at=1000.0)
    take_part(run, [part("edge", report=30 * DAY, raw=DAY), part("cloud", report=30 * DAY, raw=DAY)])
    assert expires_at(run, 7 * DAY) == 1000.0 + 30 * DAY
    take_part(run, [part("edge", raw=DAY)])
    assert expires_at(run, 7 * DAY) == 1000.0 + 7 * DAY
    take_part(run, [])
    assert expires_at(run, 7 * DAY) == 1000.0 + 7 * DAY
