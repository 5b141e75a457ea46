"""The service: knows colours by name. What it has to know is worked out once, and then asked for each picture."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conversation import Conversation
from PIL import Image

NAMED = {
    "black": (0, 0, 0),
    "blue": (25, 25, 112),
    "brown": (139, 69, 19),
    "green": (34, 139, 34),
    "grey": (128, 128, 128),
    "orange": (255, 140, 0),
    "red": (139, 0, 0),
    "sand": (222, 184, 135),
    "sky": (135, 206, 235),
    "white": (255, 255, 255),
}
STEPS = 16  # of each of red, green and blue in the table
WIDTH = 96


def nearest(colour: tuple[int, ...]) -> str:
    """The name of the colour that this is most like."""
    return min(NAMED, key=lambda name: sum((a - b) ** 2 for a, b in zip(NAMED[name], colour, strict=True)))


def table() -> list[str]:
    """The name for each of 4096 colours."""
    wide = 256 // STEPS
    middles = [step * wide + wide // 2 for step in range(STEPS)]
    return [nearest((red, green, blue)) for red in middles for green in middles for blue in middles]


class Naming:
    """What the service keeps between tasks."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def warm_up(self) -> None:
        """Work out the table."""
        self._names = table()

    def picture(self, task: dict[str, Any], _cancelled: threading.Event, log: Callable[[str], None]) -> None:
        """A directory with the picture made small, and what there is to say of it."""
        made = Path(task["outputs"]["thumbnail"])
        made.mkdir()
        with Image.open(task["inputs"]["picture"]) as picture:
            title, size = picture.info["Title"], picture.size
            small = picture.convert("RGB").resize((WIDTH, WIDTH * size[1] // size[0]), Image.Resampling.NEAREST)
        small.save(made / "thumbnail.png")
        colours: Counter[str] = Counter()
        for count, colour in small.getcolors(WIDTH * WIDTH) or ():
            assert isinstance(colour, tuple)
            red, green, blue = (int(part) * STEPS // 256 for part in colour)
            colours[self._names[(red * STEPS + green) * STEPS + blue]] += count
        [(most, _)] = colours.most_common(1)
        (made / "facts.json").write_text(json.dumps({"title": title, "size": size, "colour": most}))
        log(f"{title} is mostly {most}")


if __name__ == "__main__":
    naming = Naming()
    conversation = Conversation(naming.picture)
    conversation.connect()
    naming.warm_up()
    conversation.serve()
