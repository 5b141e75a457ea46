"""First: the files of a zip."""

import zipfile
from pathlib import Path

from engine import serve


def unzip(archive: Path, out: Path) -> None:
    """Each file by its name."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(out)


serve(unzip)
