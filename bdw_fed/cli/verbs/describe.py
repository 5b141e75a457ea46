"""`describe`: everything about one thing."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.kinds import kind_and_name
from bdw_fed.cli.options import Agent, Namespace, Output, State, connect
from bdw_fed.cli.output import Format, plain, show_values

EXAMPLES = """\
  bdw-fed describe run delays-x7k2p      what failed, in the worker's own words; what ran where
  bdw-fed describe workflow delays
  bdw-fed describe cluster edge-jfk
"""


def command(
    kind: Annotated[str, Argument("Kind, or KIND/NAME.", "KIND", "kind")],
    name: Annotated[str | None, Argument("Name.", "NAME")] = None,
    output: Output = Format.TABLE,
    agent: Agent = "",
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """Show all that is known of one thing: of a run its steps, failures, outputs, and what ran where."""
    from bdw_fed.cli import description, figures
    from bdw_fed.cli.listing import show_clusters, show_objects

    kind, name = kind_and_name(kind, name)
    for_program = output in (Format.JSON, Format.YAML)
    with connect(state, namespace, agent) as client:
        if kind == "Run":
            answer = client.describe(name)
            if for_program:
                show_values(plain(answer), output)
            else:
                description.show_run(answer)
        elif kind == "Agent":
            if for_program:
                show_clusters(client, name, output)
            else:
                figures.show_cluster_figures(description.show_cluster(client, name))
        else:
            item = client.get(kind, name)
            if for_program:
                show_objects(kind, [item], output, one=True)
            elif kind == "Quota":
                from bdw_fed.cli.quotas import show_quota

                show_quota(client, item)
            else:
                description.show_definition(item)
                if kind == "Topology":
                    figures.show_link_figures(client.status().clusters)
