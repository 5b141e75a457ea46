"""`get`: list things, or show one."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.kinds import kind_of
from bdw_fed.cli.options import Agent, Namespace, Output, State, connect
from bdw_fed.cli.output import Format

EXAMPLES = """\
  bdw-fed get runs
  bdw-fed get clusters -o wide
  bdw-fed get pools
  bdw-fed get workflow delays -o yaml
  bdw-fed get step/clean-flights@1 -o json
  bdw-fed get runs --watch
"""


def command(
    kind: Annotated[
        str, Argument("runs, workflows, steps, topologies, quotas, clusters or pools; or KIND/NAME.", "KIND", "kind")
    ],
    name: Annotated[str | None, Argument("Only this one.", "NAME")] = None,
    output: Output = Format.TABLE,
    watch: Annotated[bool, Option(("--watch", "-w"), "Go on showing changes as they happen.")] = False,
    agent: Agent = "",
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """List things of one kind, or show one of them."""
    from bdw_fed.cli.listing import show_clusters, show_objects, show_pools

    if name is None and "/" in kind:
        kind, _, name = kind.partition("/")
    if kind.lower() in ("pool", "pools"):
        with connect(state, namespace, agent) as client:
            show_pools(client, name, output)
        return
    kind = kind_of(kind)
    with connect(state, namespace, agent) as client:
        if kind == "Agent":
            show_clusters(client, name, output)
            return
        objects = [client.get(kind, name)] if name else list(client.list(kind))
        if kind == "Quota" and objects and output in (Format.TABLE, Format.WIDE) and not watch:
            from bdw_fed.cli.quotas import show_quotas

            show_quotas(client, objects)
            return
        show_objects(kind, objects, output, one=name is not None)
        if watch:
            for change in client.watch(kind, name=name or ""):
                show_objects(kind, [change.object], output, one=True, gone=change.deleted)
