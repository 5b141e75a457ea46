"""A run that was just started: said in the form that was asked for, and followed to its end where that was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bdw_fed.cli.output import Format, plain, show_values

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient
    from bdw_fed.v1 import control_plane_pb2 as pb


def show_submitted(client: SyncClient, response: pb.SubmitResponse, output: Format, *, wait: bool) -> int | None:
    """Say which run it is; with `wait` follow it. Returns the exit code of a run that was followed."""
    if output in (Format.JSON, Format.YAML):
        show_values(plain(response), output)
    elif output is Format.NAME:
        print(response.run.name)
    else:
        print(f"run {response.run.name} submitted")
        for warning in response.plan.warnings:
            print(f"warning: {warning}")
    if not wait:
        return None
    from bdw_fed.cli.progress import follow

    return follow(client, response.run.name, output)
