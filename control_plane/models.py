"""The models of topologies and workflows, imported aside: they take longer to import than the rest of the hub together.

The hub starts without them, imports them in a thread once it serves, and whoever needs them waits for that instead of
stopping the event loop.
"""

from __future__ import annotations

import asyncio
import importlib

_MODULES = (
    "control_plane.api.applying",
    "control_plane.api.preparing",
    "control_plane.federation.directory",
    "control_plane.planner.core",
)


_imported = False


async def models_imported() -> None:
    """Wait until the models, and what of the hub stands on them, are imported."""
    if not _imported:
        await asyncio.to_thread(import_models)


def import_models() -> None:
    """Import them now."""
    global _imported  # noqa: PLW0603 - modules are imported once for the process, so this is known for the process
    for module in _MODULES:
        importlib.import_module(module)
    _imported = True
