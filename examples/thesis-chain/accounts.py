"""What a run's events say: where each unit went, how its time was spent, what crossed between zones and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bdw_fed.v1 import model_pb2 as model

ZONES = {"edge1": "edge1", "edge2": "edge2", "cloud1": "cloud1"}  # cluster -> zone, see topology.yaml
PREFIX = "io.bdw-fed."


@dataclass
class Account:
    """One run. Times are seconds, sizes bytes; those of `spent` are means over the units of the whole way."""

    run: str
    makespan: float
    spent: dict[str, float]  # data, queue, start, execution
    pulls: dict[str, int]  # local, same zone, cross zone
    crossed: int
    least: int  # each unit once
    tasks: dict[str, int]  # cluster -> of the steps that may run anywhere
    twice: list[Move] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def label(self, **about: Any) -> None:
        """What the run was of."""
        self.about = about


@dataclass
class Move:
    """A crossing that the least does not need: a unit went to another edge, on its way to the cloud."""

    unit: str
    size: int
    step: str
    source: str
    to: str
    expected: Mapping[str, Mapping[str, Any]]

    @property
    def excess(self) -> int:
        """Bytes beyond the least: this crossing; and if it came from the cloud, the one that had brought it there."""
        return self.size * (2 if self.source == "cloud1" else 1)


def account(run: model.Run, events: Sequence[model.Event]) -> Account:
    """The account of a run that has succeeded. ValueError if events of it were dropped."""
    if any(event.left_out for event in events):
        raise ValueError(f"run {run.name} has more events than are remembered")
    told = [(event, json.loads(event.data_json)) for event in sorted(events, key=lambda event: event.lamport)]
    born: dict[str, float] = {}
    size: dict[str, int] = {}
    data_seconds: dict[tuple[str, str], float] = {}
    sources: set[str] = set()
    spent = dict.fromkeys(("data", "queue", "start", "execution"), 0.0)
    pulls = {"local": 0, "same zone": 0, "cross zone": 0}
    crossed = 0
    tasks: dict[str, int] = {}
    moves: list[Move] = []
    for event, data in told:
        kind = event.type.removeprefix(PREFIX)
        if kind == "source.opened":
            sources.update(data["made"])
            size.update(dict.fromkeys(data["made"], data["bytes"]))
            born.update(dict.fromkeys(data["made"], event.time))
        elif kind == "unit.fetched":
            there, here = data["from"], event.cluster
            key = (data["unit"], here)
            data_seconds[key] = data_seconds.get(key, 0.0) + data["seconds"]
            if ZONES[there] == ZONES[here]:
                pulls["same zone"] += 1
            else:
                pulls["cross zone"] += 1
                crossed += data["bytes"]
        elif kind == "unit.routed" and data["to"] != "cloud1":
            step = event.subject.rpartition("/")[2]
            moves.append(Move(data["unit"], data["size"], step, event.cluster, data["to"], data["expected"]))
        elif kind == "task.done":
            [unit] = data["of"]
            waited = data_seconds.get((unit, event.cluster), 0.0)
            whole = event.time - born.get(unit, event.time)
            spent["data"] += waited
            spent["start"] += data["starting"]
            spent["execution"] += data["seconds"]
            spent["queue"] += max(0.0, whole - waited - data["starting"] - data["seconds"])
            pulls["local"] += (unit, event.cluster) not in data_seconds
            born.update(dict.fromkeys(data["made"], event.time))
            if "/steps/fourth/" not in event.subject:
                tasks[event.cluster] = tasks.get(event.cluster, 0) + 1
    return Account(
        run.name,
        run.ended_at - run.submitted_at,
        {name: seconds / len(sources) for name, seconds in spent.items()},
        pulls,
        crossed,
        sum(size[unit] for unit in sources),
        tasks,
        moves,
    )


def show_head() -> None:
    """The head of a table of Markdown."""
    left = ("body", "units", "prefer")
    right = ("makespan", "data", "queue", "start", "execution", "local", "zone", "cross", "crossed MB", "least MB")
    print("| " + " | ".join((*left, *right, "/".join(ZONES))) + " |")
    print("|" + " --- |" * len(left) + " ---: |" * len(right) + " --- |", flush=True)


def show_row(row: Account) -> None:
    """One run."""
    about = row.about
    cells = [about["body"], f"2 x {about['units']} x {about['megabytes']} MB", about["prefer"], f"{row.makespan:.2f}"]
    cells += [f"{row.spent[name]:.2f}" for name in ("data", "queue", "start", "execution")]
    cells += [str(row.pulls[name]) for name in ("local", "same zone", "cross zone")]
    cells += [f"{row.crossed / 1e6:.0f}", f"{row.least / 1e6:.0f}"]
    cells.append("/".join(str(row.tasks.get(cluster, 0)) for cluster in ZONES))
    print("| " + " | ".join(cells) + " |", flush=True)


def show_excess(rows: Sequence[Account]) -> None:
    """Each unit that went to another edge, with what was expected of each cluster when that was decided."""
    for row in rows:
        if not row.twice:
            continue
        over = sum(move.excess for move in row.twice) / 1e6
        print(f"\n{row.run}: {len(row.twice)} moves to an edge, {over:.0f} MB more across than the least")
        for move in row.twice:
            figures = ", ".join(
                f"{cluster} {each['finish']:.3f} (transfer {each['transfer']:.3f}, queue {each['queue']:.3f})"
                for cluster, each in sorted(move.expected.items(), key=lambda item: item[1]["distance"])
            )
            print(
                f"  {move.unit[:8]} {move.size / 1e6:.0f} MB before {move.step}: {move.source} to {move.to}; {figures}"
            )
