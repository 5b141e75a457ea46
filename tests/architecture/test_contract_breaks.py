"""A break of the contract passes where it is listed with its reason, in the change that makes it, and nowhere else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).parents[2] / "protos"
pytestmark = pytest.mark.slow  # `make check` runs it all the same, before the quick tests
TWO = """syntax = "proto3";
package bdw_fed.v1;
message Kept {
  string name = 1;
}
message Gone {
  string name = 1;
}
"""
ONE = TWO[: TWO.index("message Gone")]
LINE = '- `a.proto`: Previously present message "Gone" was deleted from file.\n'
LISTED = f"# Breaks\n\n## Why\n\nNobody spoke it.\n\n{LINE}"


class Repository:
    """A repository with one .proto file, whose checks are those of this one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.git("init", "-q", "-b", "main")
        self.write("protos/bdw_fed/v1/a.proto", TWO)
        shutil.copy(PROTOS / "buf.yaml", directory / "protos")
        shutil.copy(PROTOS / "check.py", directory / "protos")
        self.commit()
        self.git("commit", "-q", "--allow-empty", "-m", "another")

    def git(self, *args: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *args], cwd=self.directory, check=True)

    def write(self, path: str, text: str) -> None:
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_text(text)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a change")

    def check(self) -> list[str]:
        """What is wrong."""
        done = subprocess.run(
            [sys.executable, "protos/check.py"], cwd=self.directory, capture_output=True, text=True, check=False
        )
        said = done.stdout.splitlines()
        assert done.returncode == bool(said), done.stderr
        return said


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_break_is_refused_and_says_how_it_may_pass(repository: Repository) -> None:
    assert repository.check() == []
    repository.write("protos/bdw_fed/v1/a.proto", ONE)
    (wrong,) = repository.check()
    assert 'a break: a.proto: Previously present message "Gone" was deleted from file.' in wrong
    assert "list it in protos/breaks.md" in wrong


def test_a_listed_break_passes_in_its_own_change_and_is_history_afterwards(repository: Repository) -> None:
    repository.write("protos/bdw_fed/v1/a.proto", ONE)
    repository.write("protos/breaks.md", LISTED)
    assert repository.check() == []
    repository.commit()
    assert repository.check() == []
    repository.git("commit", "-q", "--allow-empty", "-m", "another")
    assert repository.check() == []
    repository.write("protos/bdw_fed/v1/a.proto", TWO)
    repository.commit()
    repository.write("protos/bdw_fed/v1/a.proto", ONE)
    repository.commit()
    assert len(repository.check()) == 1, "an old line excuses no new break"
    repository.write("protos/breaks.md", LISTED + LINE)
    assert repository.check() == []


def test_a_line_without_a_break_and_one_without_a_reason_are_wrong(repository: Repository) -> None:
    repository.write("protos/breaks.md", LISTED)
    (wrong,) = repository.check()
    assert "lists a break that is none" in wrong
    repository.write("protos/bdw_fed/v1/a.proto", ONE)
    repository.write("protos/breaks.md", f"# Breaks\n\n## Why\n\n{LINE}")
    (wrong,) = repository.check()
    assert "gives no reason" in wrong
