"""Puts units together into one file: the built-in step between what made them and who wants one.

    units in order ─▶ the merger of the format ─▶ one file, and its digest

The order is the caller's. What splitters cut, mergers of the same format make whole again: the header once, the row
groups of Parquet and the members of a tar behind each other. Nothing is merged that does not fit: units with other
headers or schemas are an error that names them. No units at all make an empty file of the format.
"""

from cluster_agent.data.merge.making import FORMATS, merge

__all__ = ["FORMATS", "merge"]
