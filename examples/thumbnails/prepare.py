"""Draws the pictures of two cameras, the same on every machine: six each, every one with its title in it."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

CAMERAS = ("harbour", "hill")
PICTURES = 6
SIZE = (480, 320)
DATA = Path(__file__).parent / "data"
SKIES = ("#87ceeb", "#ff8c00", "#191970", "#708090")


def draw(chance: random.Random) -> Image.Image:
    """A sky, ground, and some houses between them."""
    picture = Image.new("RGB", SIZE, chance.choice(SKIES))
    brush = ImageDraw.Draw(picture)
    horizon = chance.randrange(SIZE[1] // 3, SIZE[1])
    brush.rectangle((0, horizon, *SIZE), fill=chance.choice(("#228b22", "#deb887", "#ffffff")))
    for _ in range(5):
        left, wide, high = chance.randrange(SIZE[0]), chance.randrange(20, 90), chance.randrange(20, 120)
        brush.rectangle((left, horizon - high, left + wide, horizon), fill=chance.choice(("#8b0000", "#f5f5dc")))
    return picture


def main() -> None:
    """Draw what both cameras have seen."""
    for camera in CAMERAS:
        (DATA / camera).mkdir(parents=True, exist_ok=True)
        for number in range(PICTURES):
            title = PngInfo()
            title.add_text("Title", f"{camera}-{number}")
            picture = draw(random.Random(f"{camera} {number}"))  # noqa: S311 - nothing is kept secret with it
            picture.save(DATA / camera / f"{number}.png", pnginfo=title)


if __name__ == "__main__":
    main()
