"""Counting words: of one text, of many counts, and as a table."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter

Counts = dict[str, int]


def count(text: str) -> Counts:
    """The words of a text, and how often each stands there."""
    return Counter(re.findall(r"[a-z]+", text.lower()))


def add(counts: list[Counts]) -> Counts:
    """Counts added up: of texts, or of sums of texts."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def table(counts: Counts, least: int) -> str:
    """The words that stand there often enough, the most frequent first, as CSV."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["word", "times"])
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rows.writerows((word, times) for word, times in ranked if times >= least)
    return written.getvalue()
