"""`python -I spawner FD OWNER MEMORY`: the spawner, and beside it the worker that it forks.

As in the worker's own `__main__`, both packages are loaded under names that are nobody else's, and the directory that
is executed is taken away from where a step's modules are looked for.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
from pathlib import Path

_SPAWNER = "bdw_fed_spawner"
_WORKER = "bdw_fed_worker"  # the package of the same name in a pod


def _load(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    gc.disable()  # nothing of what is loaded is garbage
    here = Path(__file__).resolve().parent
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != here]
    _load(_SPAWNER, here)
    _load(_WORKER, here.with_name("worker"))
    main = importlib.import_module(f"{_SPAWNER}.spawning").main
    modules = (importlib.import_module(f"{_WORKER}.{name}") for name in ("serving", "system", "programs"))
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], *modules)
