"""Records: what may not be cut in each format, and where each of them ends. Splitters and mergers stand on this.

    file ─▶ blocks (decompressed) ─▶ a scanner of the format ─▶ where records end within the block

A scanner is given the blocks of one file in order and keeps what it must know of those before: whether a quoted field
is open, how much of a tar member is still to come. Parquet is another matter: its parts are found by its footer, so it
is read where it lies (`parquet`).
"""
