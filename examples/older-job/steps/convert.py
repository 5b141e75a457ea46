"""Second: from how the offices write to how the rest of the world does."""

from pathlib import Path

from engine import serve


def convert(file: Path, out: Path) -> None:
    """Latin-1 becomes UTF-8, a comma within a number a point, and a semicolon between two a comma."""
    text = file.read_text("latin-1").replace(",", ".").replace(";", ",")
    (out / file.name).write_text(text.rstrip("\n") + "\n", "utf-8")


serve(convert)
