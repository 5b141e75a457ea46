"""The engines that are compared, by name. A module is imported only by the process that measures it.

So that what one engine's library does on import (threads, hooks, environment) can't slow another.
"""

from __future__ import annotations

import importlib

from engines.base import Engine

CLASSES = {
    "floor": "engines.floor:Floor",
    "floor-power": "engines.floor:PowerFloor",
    "parsl": "engines.parsl:Parsl",
    "dask": "engines.dask:Dask",
    "ray": "engines.ray:Ray",
    "dbos": "engines.dbos:Dbos",
    "bdw-fed": "engines.bdw_fed:BdwFed",
}


def load(name: str) -> type[Engine]:
    """The class of an engine; importing it may raise `ImportError` where its library is not installed."""
    module, _, attribute = CLASSES[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, type)
    assert issubclass(found, Engine)
    return found
