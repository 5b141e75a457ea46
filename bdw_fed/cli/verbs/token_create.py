"""`token create`: what lets a cluster join."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import Output, State, connect
from bdw_fed.cli.output import Format, plain, show_values

EXAMPLES = """\
  bdw-fed token create --cluster edge1
  bdw-fed token create --cluster edge1 --ttl 15m --needs-acceptance
"""
_DIRECTORY = "/var/lib/bdw-fed/agent"


def command(
    cluster: Annotated[str, Option(("--cluster",), "Name of the cluster in the topology.", "NAME")],
    ttl: Annotated[str, Option(("--ttl",), "How long the token can be used, for example 15m.", "DURATION")] = "1h",
    needs_acceptance: Annotated[
        bool, Option(("--needs-acceptance",), "Who joins with it waits for 'bdw-fed cluster accept'.")
    ] = False,
    output: Output = Format.TABLE,
    state: State = None,
) -> None:
    """Make a token with which one key can join as a cluster, once. It is printed here and kept nowhere."""
    from bdw_fed.cli.quantities import duration

    seconds = seconds_from("--ttl", ttl)
    with connect(state, None) as client:
        made = client.create_token(cluster, time_to_live=seconds, needs_acceptance=needs_acceptance)
        hub = client.profile.hub
    address = made.join_address
    if address.startswith(":"):
        address = hub.rpartition(":")[0] + address
    if not output.for_people:
        made.join_address = address
        show_values(plain(made), output if output is Format.YAML else Format.JSON)
        return
    print(f"On the machine of {cluster}'s agent, within {duration(seconds)}:\n")
    print(f"  bdw-fed agent join {address} --token {made.token} \\")
    print(f"      --ca-hash {made.authority_hash} --directory {_DIRECTORY}\n")
    if needs_acceptance:
        print(
            f"Then let it in, if the key that it shows is the one that waits:\n\n  bdw-fed cluster accept {cluster}\n"
        )
    print("And start it:\n")
    print(f"  bdw-fed agent --cluster {cluster} --hub {hub} --directory {_DIRECTORY} --data-root DIR\n")
    print("Or, where the cluster is one of Kubernetes, on a machine with its kubectl, in place of both:\n")
    print(f"  bdw-fed agent manifest --directory {cluster} --cluster {cluster} --hub {hub} --join {address} \\")
    print(f"      --token {made.token} \\")
    print(f"      --ca-hash {made.authority_hash} | kubectl apply -f -")


def seconds_from(flag: str, text: str) -> float:
    """The seconds of `15m` and the like. UsageError names the flag."""
    from bdw_fed.cli.exits import UsageError
    from topology.errors import WrongValue
    from topology.quantity import parse_duration

    try:
        return parse_duration(text)
    except WrongValue as error:
        raise UsageError(f"{flag}: {error.message}") from error
