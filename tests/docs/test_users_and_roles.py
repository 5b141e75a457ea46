"""The page on roles says of each call what the contract says."""

from __future__ import annotations

from pathlib import Path

from bdw_fed.v1.calls import ACCESS
from control_plane.access.rules import SERVICE, role_name

PAGE = Path(__file__).parents[2] / "docs" / "users-and-roles.md"


def test_the_table_of_calls_is_that_of_the_contract() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    stated = [
        f"| `{method}` | {role_name(access.needs)} | {'yes ' if access.changes else ''}|"
        for (service, method), access in ACCESS.items()
        if service == SERVICE
    ]
    assert rows == stated
