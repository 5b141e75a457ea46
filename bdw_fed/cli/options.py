"""Arguments and options that several verbs have, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.output import Format

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient

State = Annotated[
    Path | None,
    Option(
        ("--state",),
        "State directory of a federation on this machine. Default: BDW_FED_STATE, else ~/.local/state/bdw-fed; "
        "BDW_FED_HUB and BDW_FED_CREDENTIALS name a hub elsewhere.",
        "DIR",
    ),
]
TopologyFile = Annotated[Path | None, Argument("YAML file with a topology. Default: a small one.", "FILE")]
Data = Annotated[
    Path | None, Option(("--data",), "What datasets' paths are relative to. Default: the topology's directory.", "DIR")
]
StorageCredentials = Annotated[
    Path | None,
    Option(
        ("--storage-credentials",),
        "With --topology: where the credentials are that its storage names, NAME/FILE below it.",
        "DIRECTORY",
    ),
]
Namespace = Annotated[
    str | None, Option(("--namespace", "-n"), "Namespace. Default: the profile's, else 'default'.", "NAME")
]
Output = Annotated[Format, Option(("--output", "-o"), "How to show it: table, wide, json, yaml or name.")]
RunName = Annotated[str, Argument("Name of the run.", "RUN", "run")]
ClusterName = Annotated[str, Argument("Name of the cluster.", "CLUSTER", "cluster")]
Agent = Annotated[
    str,
    Option(
        ("--agent",),
        "Ask this cluster's agent itself, hub or no hub, about its part: a cluster's name, or NAME@HOST:PORT.",
        "NAME",
        "cluster",
    ),
]
NoCache = Annotated[
    bool, Option(("--no-cache",), "Take nothing from the caches: execute all tasks, and keep what they make.")
]
Parameters = Annotated[
    list[str] | None,
    Option(
        ("--parameter", "-p"),
        "A parameter, NAME=VALUE; the value is read as JSON where it is JSON, else as text. Repeatable.",
        "NAME=VALUE",
    ),
]


def connect(state: Path | None, namespace: str | None, agent: str = "") -> SyncClient:
    """A client for the hub that the options name, or for an agent itself."""
    from bdw_fed.client import SyncClient

    if agent:
        from bdw_fed.cli.agents import agent_profile

        return SyncClient(agent_profile(state, agent), namespace=namespace)
    return SyncClient(state=state, namespace=namespace)


def parameters_from(words: list[str]) -> dict[str, object]:
    """The parameters of `-p NAME=VALUE`. UsageError for one without a name or '='."""
    import json

    from bdw_fed.cli.exits import UsageError

    parameters: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"-p {word}: expected NAME=VALUE")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters
