"""`python -I worker FD`: the worker by itself, in an interpreter of the user's image.

Python puts the directory that it executes in front of all others, where our modules would stand for a step's own of the
same names. So it is taken away, and the package loaded under a name that is nobody else's.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAME = "bdw_fed_worker"  # as the spawner calls it, too

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != here]
    spec = importlib.util.spec_from_file_location(NAME, here / "__init__.py", submodule_search_locations=[str(here)])
    assert spec is not None and spec.loader is not None
    package = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    importlib.import_module(f"{NAME}.serving").serve(int(sys.argv[1]))
