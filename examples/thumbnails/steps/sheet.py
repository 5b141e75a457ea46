"""All thumbnails on one sheet, and a list of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from PIL import Image

ACROSS = 4


def make(thumbnails: list[Path], out: dict[str, Path]) -> None:
    """The pictures in the order of their titles, `ACROSS` in a row."""
    told = {directory: json.loads((directory / "facts.json").read_text()) for directory in thumbnails}
    ranked = sorted(thumbnails, key=lambda directory: told[directory]["title"])
    pictures = [Image.open(directory / "thumbnail.png") for directory in ranked]
    wide, high = (max(picture.size[side] for picture in pictures) for side in (0, 1))
    sheet = Image.new("RGB", (ACROSS * wide, -(-len(pictures) // ACROSS) * high), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % ACROSS * wide, number // ACROSS * high))
    sheet.save(out["sheet"])
    with out["index"].open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["title", "width", "height", "colour"])
        rows.writerows((told[each]["title"], *told[each]["size"], told[each]["colour"]) for each in ranked)
