"""One engine and one case in a process of their own: `python -m engines ENGINE CASE …`, started by `run.py`.

The result goes to a file, because libraries print what they like. Home and temporary files are inside the
engine's state directory, which is removed afterwards, because libraries leave things there (Ray an access token,
Dask its locks).
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines import CLASSES, load
from engines.base import Case, UnavailableError


def main() -> None:
    """Measure and write `{"status": "measured" | "skipped", …}`; anything else ends in a traceback."""
    parser = argparse.ArgumentParser(prog="python -m engines")
    parser.add_argument("engine", choices=CLASSES)
    parser.add_argument("case", type=Case, choices=list(Case))
    parser.add_argument("--size", type=int, required=True, help="steps or units")
    parser.add_argument("--repetitions", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="an empty directory")
    parser.add_argument("--result", type=Path, required=True, help="where the JSON goes")
    given = parser.parse_args()
    confine(given.state)
    result: dict[str, Any]
    try:
        own = given.state / "engine"
        own.mkdir()
        measurement = load(given.engine)().measure(given.case, given.size, given.repetitions, own)
    except ModuleNotFoundError as missing:
        result = {"status": "skipped", "reason": f"{missing}; run `make setup` in benchmarks/peers"}
    except UnavailableError as reason:
        result = {"status": "skipped", "reason": str(reason)}
    else:
        result = {"status": "measured", **asdict(measurement)}
    given.result.write_text(json.dumps(result), encoding="utf-8")


def confine(state: Path) -> None:
    """Point this process and its children at directories inside `state`, and past any proxy for loopback."""
    for variable in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[variable]
    for variable, name in {"HOME": "home", "TMPDIR": "tmp"}.items():
        directory = state / name
        directory.mkdir()
        os.environ[variable] = str(directory)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    os.environ["DO_NOT_TRACK"] = "1"


if __name__ == "__main__":
    main()
