"""A module of the user's own, which a step uses."""

LIMIT = 3


def cut(words: list[str]) -> list[str]:
    return words[:LIMIT]
