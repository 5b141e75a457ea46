"""What the five programs had in common under the older engine, and still have: the loop over the shared directory.

    PROGRAM POLL SANDBOX CODE IN WORK OUT QUEUE-IN QUEUE-OUT PARAMETERS…

A file is claimed by moving it from `in` to `work`, so that of many programs one has it. Its results are written to
`out`, and then the claimed file is removed. Where there are queues a message told that there is a file; where `-`
stands for them the directory is looked at every `poll` seconds.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

Work = Callable[..., None]
"""(claimed file, directory to write results to, the parameters as they were given)"""


def serve(work: Work) -> None:
    """Do this with each file that comes, for ever."""
    poll, _, _, coming, claimed, out, queue_in, queue_out, *parameters = sys.argv[1:]
    if (queue_in, queue_out) != ("-", "-"):
        sys.exit("this copy of the program has no queue: say - for both")
    while True:
        for found in sorted(Path(coming).iterdir()):
            mine = Path(claimed) / found.name
            shutil.move(found, mine)
            work(mine, Path(out), *parameters)
            mine.unlink()
        time.sleep(float(poll))
