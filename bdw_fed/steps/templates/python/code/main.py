"""The step's function: called for each unit, in an interpreter that stays warm."""

from pathlib import Path


def main(lines: Path, min_length: int, out: dict[str, Path]) -> None:
    """Keep the lines that are long enough."""
    with lines.open() as source, out["lines"].open("w") as target:
        target.writelines(line for line in source if len(line.rstrip("\n")) >= min_length)
