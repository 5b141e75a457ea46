"""A run watched: a live table on a terminal, a line at each change elsewhere, and how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from bdw_fed.cli.description import progress_of, show_failures, skipped
from bdw_fed.cli.exits import NEGATIVE, OK
from bdw_fed.cli.explanation import is_built_in
from bdw_fed.cli.output import Format, is_terminal, plain, word
from bdw_fed.cli.quantities import duration, size
from bdw_fed.client.errors import ClientError
from bdw_fed.client.runs import has_ended
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient

_LINE_EVERY = 1.0
_BAR_CELLS = 20


def follow(client: SyncClient, run: str, form: Format = Format.TABLE) -> int:
    """Show a run until it has ended: to a person, or as a JSON line for each change. Returns its exit code."""
    if form is Format.NAME:
        return code_of(client.wait(run))
    if not form.for_people:
        last = None
        for last in client.watch_run(run):
            print(json.dumps(plain(last)), flush=True)  # a line of JSON is also a YAML document
        assert last is not None
        return code_of(last)
    ended = watched(client, run)
    print(ending(ended))
    show_failures(ended)
    return code_of(ended)


def watched(client: SyncClient, run: str, on: View | None = None) -> model.Run:
    """Show a run until it has ended, and return it; `on` that view, else on what there is."""
    plan = _plan(client, run)
    expected = {step.step: step.expected_units for step in plan.steps}
    last = None
    with _view(sorted(plan.skipped)) if on is None else nullcontext(on) as view:
        for state in client.watch_run(run):
            last = state
            view.show(state, expected)
    assert last is not None
    return last


def code_of(run: model.Run) -> int:
    """0 for a run that succeeded, else 1."""
    return OK if run.state == model.RUN_STATE_SUCCEEDED else NEGATIVE


def ending(run: model.Run) -> str:
    """How a run ended, in one line."""
    state = word(model.RunState, run.state)
    took = f" after {duration(max(0.0, run.ended_at - run.submitted_at))}" if run.ended_at else ""
    why = f": {run.message}" if run.message and has_ended(run) and run.state != model.RUN_STATE_SUCCEEDED else ""
    return f"run {run.name} {state}{took}{why}"


def _plan(client: SyncClient, run: str) -> model.Plan:
    """What is expected of each step, and which are skipped; empty where no plan can be had."""
    try:
        return client.explain(run=run)
    except ClientError:
        return model.Plan()


class View(Protocol):
    """Where a run is shown, each time it has changed."""

    def show(self, run: model.Run, expected: dict[str, float]) -> None:
        """Show it as it is now, beside how many tasks the plan expects of each step."""


@contextmanager
def _view(skipped: Sequence[str]) -> Iterator[View]:
    """A live table for a person, lines for a file."""
    if not is_terminal():
        if skipped:
            print(f"skipped: {', '.join(skipped)}", flush=True)
        yield _Lines()
        return
    from rich.live import Live

    from bdw_fed.cli.output import console

    with Live(console=console(), refresh_per_second=8, transient=False) as live:
        yield _Table(live, skipped)


class _Lines:
    """One line for each change, at most one a second; what is over and why is never left out."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._last_at = -_LINE_EVERY
        self._last_text = ""
        self._last_state = -1

    def show(self, run: model.Run, expected: dict[str, float]) -> None:
        """Print a line if there is news."""
        now = time.monotonic()
        news = run.message if run.state == model.RUN_STATE_QUEUED else self._counters(run, expected)
        text = f"{word(model.RunState, run.state):<10} {news}".rstrip()
        changed = run.state != self._last_state
        if text == self._last_text or (not changed and now - self._last_at < _LINE_EVERY):
            return
        print(f"{now - self._started:6.1f}s {text}", flush=True)
        self._last_at, self._last_text, self._last_state = now, text, run.state

    @staticmethod
    def _counters(run: model.Run, expected: dict[str, float]) -> str:
        totals: dict[str, list[int]] = {}
        for step, _, progress in progress_of(run, expected):
            if is_built_in(step):
                continue
            total = totals.setdefault(step, [0, 0, 0, 0])
            total[0] += progress.waiting
            total[1] += progress.running
            total[2] += progress.done
            total[3] += progress.cached
        parts = []
        for step, (waiting, running, done, cached) in totals.items():
            of = f"/{expected[step]:.0f}" if expected.get(step, 0) >= done > 0 else ""
            busy = f" ({waiting} wait, {running} run)" if waiting or running else ""
            taken = f" ({cached} cached)" if cached else ""
            parts.append(f"{step} {done}{of}{taken}{busy}")
        return "  ".join(parts)


class _Table:
    """A table that is drawn again at each change."""

    def __init__(self, live: Any, skipped: Sequence[str]) -> None:
        self._live = live
        self._skipped = skipped

    def show(self, run: model.Run, expected: dict[str, float]) -> None:
        """Draw the run as it is now."""
        self._live.update(drawn(run, expected, self._skipped))


def drawn(run: model.Run, expected: dict[str, float], skipped: Sequence[str] = ()) -> Any:
    """The run as a table of rich; `skipped`: the steps of its workflow that take no part."""
    from rich.table import Table
    from rich.text import Text

    state = word(model.RunState, run.state)
    title = f"{run.name}  {state}" + (f"  {run.message}" if run.message else "")
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for column, justify in (
        ("STEP", "left"),
        ("CLUSTER", "left"),
        ("WAITING", "right"),
        ("RUNNING", "right"),
        ("DONE", "right"),
        ("FAILED", "right"),
        ("OUT", "right"),
        ("WORKERS", "right"),
        ("", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    done_of: dict[str, int] = {}
    for step, _, progress in progress_of(run, expected):
        done_of[step] = done_of.get(step, 0) + progress.done
    previous = ""
    for step, cluster, progress in progress_of(run, expected):
        if is_built_in(step):
            continue
        first = step != previous
        previous = step
        table.add_row(
            Text(step if first else "", style="green" if progress.closed else "cyan" if progress.running else ""),
            cluster,
            str(progress.waiting),
            str(progress.running),
            _done(progress),
            Text(_failed(progress), style="red" if progress.failed else ""),
            size(progress.bytes_out),
            str(progress.workers),
            _bar(done_of[step], expected.get(step, 0.0), progress.closed) if first else "",
        )
    for step in skipped:
        table.add_row(Text(step, style="dim"), Text("skipped", style="dim"))
    return table


def _done(progress: model.StepProgress) -> str:
    """Tasks that are done, and how many of them had their results in a cache."""
    return f"{progress.done} ({progress.cached} cached)" if progress.cached else str(progress.done)


def _failed(progress: model.StepProgress) -> str:
    """Attempts that failed, and the tasks that the run went on without."""
    without = skipped(progress)
    return f"{progress.failed} ({without} skipped)" if without else str(progress.failed)


def _bar(done: int, expected: float, closed: bool) -> str:
    """How much of a step is done; the plan's expectation is only an expectation until the step is closed."""
    if closed:
        return "█" * _BAR_CELLS
    if not expected:
        return ""
    cells = int(min(0.99, done / expected) * _BAR_CELLS)
    return "█" * cells + "░" * (_BAR_CELLS - cells)
