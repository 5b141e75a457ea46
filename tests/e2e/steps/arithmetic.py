"""Steps whose answers a test can work out by itself."""

import csv
import time
from pathlib import Path


def subtotal(rows: Path, out: dict[str, Path]) -> None:
    """The sum and the count of the numbers of one unit."""
    with rows.open(newline="") as file:
        numbers = [int(row["number"]) for row in csv.DictReader(file)]
    out["sum"].write_text(f"{sum(numbers)} {len(numbers)}\n")


def total(sums: list[Path], out: dict[str, Path]) -> None:
    """All sums and counts added up, and of how many units."""
    pairs = [tuple(map(int, path.read_text().split())) for path in sums]
    result = (sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs), len(pairs))
    out["total"].write_text("{} {} {}\n".format(*result))


def label(rows: Path, names: list[Path], out: dict[str, Path]) -> None:
    """Each number with the name that its own cluster gives to its parity."""
    labels: dict[str, str] = {}
    for path in names:
        with path.open(newline="") as file:
            labels.update({row["parity"]: row["name"] for row in csv.DictReader(file)})
    with rows.open(newline="") as file, out["labelled"].open("w") as target:
        for row in csv.DictReader(file):
            target.write(f"{labels[str(int(row['number']) % 2)]}\n")


def tally(labelled: list[Path], out: dict[str, Path]) -> None:
    """How often each name stands in all units."""
    counts: dict[str, int] = {}
    for path in labelled:
        for name in path.read_text().split():
            counts[name] = counts.get(name, 0) + 1
    out["tally"].write_text("".join(f"{name} {counts[name]}\n" for name in sorted(counts)))


def scatter(seed: Path, pieces: int, out: dict[str, Path]) -> None:
    """Many units out of one."""
    out["pieces"].mkdir()
    for index in range(pieces):
        (out["pieces"] / f"{index:04}.txt").write_text(f"{seed.read_text().strip()} {index}\n")


def double(piece: Path, out: dict[str, Path]) -> None:
    """Twice the index of one piece, with a count of one."""
    out["sum"].write_text(f"{2 * int(piece.read_text().split()[1])} 1\n")


def both(left: list[Path], right: list[Path], out: dict[str, Path]) -> None:
    """Two gathered ports side by side."""
    sums = [sum(int(path.read_text().split()[0]) for path in paths) for paths in (left, right)]
    out["total"].write_text("{} {}\n".format(*sums))


def total_of_numbers(units: list[Path], out: dict[str, Path]) -> None:
    """The sum of the numbers of all units."""
    whole = 0
    for path in units:
        with path.open(newline="") as file:
            whole += sum(int(row["number"]) for row in csv.DictReader(file))
    out["total"].write_text(f"{whole}\n")


def part_of_whole(rows: Path, whole: list[Path], names: list[Path], out: dict[str, Path]) -> None:
    """The sum of one unit, that of all, and all names that there are."""
    with rows.open(newline="") as file:
        part = sum(int(row["number"]) for row in csv.DictReader(file))
    known: set[str] = set()
    for path in names:
        with path.open(newline="") as file:
            known.update(row["name"] for row in csv.DictReader(file))
    (of_all,) = whole
    out["part"].write_text(f"{part} {of_all.read_text().strip()} {' '.join(sorted(known))}\n")


def put_together(parts: list[Path], out: dict[str, Path]) -> None:
    """The parts, which make the whole that each of them was told."""
    told = [path.read_text().split(" ", 2) for path in parts]
    ((whole, names),) = {(each[1], each[2]) for each in told}
    assert sum(int(each[0]) for each in told) == int(whole)
    out["all"].write_text(f"{len(told)} of {whole} with {names}")


def sort_out(rows: Path, out: dict[str, Path]) -> None:
    """The even and the odd numbers of one unit, each in a file of its own if there are any."""
    out["sorted"].mkdir()
    with rows.open(newline="") as file:
        for row in csv.DictReader(file):
            name = "odd" if int(row["number"]) % 2 else "even"
            with (out["sorted"] / f"{name}.txt").open("a") as target:
                target.write(f"{row['number']}\n")


def one_kind(parts: list[Path], out: dict[str, Path]) -> None:
    """How many numbers there are, all of one kind, and in how many files."""
    numbers = [int(line) for path in parts for line in path.read_text().split()]
    assert len({number % 2 for number in numbers}) == 1
    out["told"].write_text(f"{'odd' if numbers[0] % 2 else 'even'} {len(numbers)} of {len(parts)}\n")


def shout(rows: Path, out: dict[str, Path]) -> None:
    """The notes of one unit in capitals; there is one."""
    with rows.open(newline="") as file:
        header, *notes = csv.reader(file)
    (note,) = notes
    with out["rows"].open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, [note[0], note[1].upper()]])


def records(rows: Path, out: dict[str, Path]) -> None:
    """How many records one file has."""
    with rows.open(newline="") as file:
        out["count"].write_text(f"{sum(1 for _ in csv.DictReader(file))} notes in one file\n")


def pad(rows: Path, mebibytes: int, out: dict[str, Path]) -> None:
    """The same numbers, and behind them an empty line and so many MiB that nobody reads."""
    with out["rows"].open("wb") as file:
        file.write(rows.read_bytes().rstrip() + b"\n\n")
        for _ in range(mebibytes):
            file.write(bytes(1 << 20))


def subtotal_of_padded(rows: Path, seconds: float, out: dict[str, Path]) -> None:
    """The sum and the count of the numbers of one padded unit."""
    time.sleep(seconds)  # the work that this step stands for: more than it takes to bring a unit here
    with rows.open("rb") as file:
        lines = [line.strip() for line in iter(file.readline, b"\n")]
    numbers = [int(line) for line in lines[1:]]
    out["sum"].write_text(f"{sum(numbers)} {len(numbers)}\n")
