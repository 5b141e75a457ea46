"""What a service says on standard output once it serves: one JSON object with its addresses."""

from __future__ import annotations

import json


def say_ready(addresses: object) -> None:
    """Print the addresses that the service listens on."""
    print(json.dumps({"ready": addresses}), flush=True)
