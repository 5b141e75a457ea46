"""Cuts a file into parts: the built-in step between a dataset and a step that wants smaller units.

    blocks ─▶ scanner: where records end ─▶ cutter: where parts end ─▶ writer: parts, in memory or in files

A part holds whole records: as many as its size allows and at least one, or so many, or its share of a given number of
parts. Where the first record is a header it leads every part. Input of no records, or of a header alone, makes no
parts. The parts' bodies, put together, are the input's. The same input and split always make the same parts, so a
second attempt makes the same units.

Everything is read once, and parts are told as soon as they exist: small ones are in memory, many at a time, large ones
are files, with the digest made while the block is at hand. Parquet is cut by its row groups (`rowgroups`), and a tar
may be unpacked (`unpacking`).
"""

from cluster_agent.data.split.base import Part, SplitSpec
from cluster_agent.data.split.making import make_parts

__all__ = ["Part", "SplitSpec", "make_parts"]
