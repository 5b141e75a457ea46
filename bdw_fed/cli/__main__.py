"""The way in: `bdw-fed VERB …`. A clean command line runs at once; all else goes through typer, which explains."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from bdw_fed.cli.arguments import NotPlainError, parse
from bdw_fed.cli.exits import run_verb
from bdw_fed.cli.lazily import import_lazily
from bdw_fed.cli.verbs import MODULES, joined, load

_COMPLETING = "_BDW_FED_COMPLETE"
_GARBAGE_AFTER = 50_000  # objects; imports make many and leave none behind, so looking for garbage early is in vain


def main() -> NoReturn:
    """Run the command line of this process and exit with its code."""
    gc.set_threshold(_GARBAGE_AFTER)
    _exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Run one command line; returns its exit code."""
    import_lazily("grpc", "aio")
    words = ["version"] if words == ["--version"] else joined(words)
    verb = words[0] if words and words[0] in MODULES and _COMPLETING not in os.environ else ""
    if verb:
        module = load(verb)
        try:
            values = parse(module.command, words[1:])
        except NotPlainError:
            pass
        else:
            return run_verb(verb, lambda: module.command(**values))
    from bdw_fed.cli.typed import application

    try:
        application(verb)(args=words, prog_name="bdw-fed", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _exit(code: int) -> NoReturn:
    """Leave without tearing down modules one by one, which takes longer than many a verb."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(code)


if __name__ == "__main__":
    main()
