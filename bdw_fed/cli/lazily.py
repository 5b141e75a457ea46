"""Importing a package's heavy part only when it is used.

`import grpc` imports grpc.aio, of which a command that asks one thing has no need, and which takes a fifth of its time.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Any


def import_lazily(package: str, part: str) -> None:
    """Have `package.part` loaded at the first look for something in it. Does nothing if `package` is loaded.

    importlib's own LazyLoader would load it while the package is imported, because it answers for no attribute at
    all, not even for those by which an import sees that a module is there.
    """
    name = f"{package}.{part}"
    if package in sys.modules or name in sys.modules:
        return
    parent = PathFinder.find_spec(package)
    if parent is None or parent.submodule_search_locations is None:
        return
    spec = PathFinder.find_spec(name, parent.submodule_search_locations)
    if spec is None or spec.loader is None:
        return
    loader = spec.loader
    module: Any = module_from_spec(spec)

    def load(wanted: str) -> Any:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        del module.__getattr__
        loader.exec_module(module)
        return getattr(module, wanted)

    module.__getattr__ = load
    sys.modules[name] = module
