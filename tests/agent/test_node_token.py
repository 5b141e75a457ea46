"""The node token: after a node was revoked the token that it may have lets nobody in, whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_agent.membership.errors import JoinError
from cluster_agent.membership.node_token import FILE, NodeToken, new_node_token, read_token
from tests.agent.federation import Members
from wire.identity import Credentials, Role


@pytest.fixture
def credentials(members: Members) -> Credentials:
    return members.issue(Role.AGENT, "a")


def lets_in(token: NodeToken, presented: str) -> bool:
    try:
        token.check(presented)
    except JoinError:
        return False
    return True


def test_a_token_is_made_once_and_lets_in_whoever_has_it(credentials: Credentials, tmp_path: Path) -> None:
    NodeToken(tmp_path, None, credentials).settle({})
    token = NodeToken(tmp_path, None, credentials)
    token.settle({})
    presented = read_token(tmp_path / FILE)
    assert lets_in(token, presented)
    assert not lets_in(token, presented.replace(presented[-1], "x"))
    assert not lets_in(token, "")


def test_a_node_that_is_revoked_retires_the_token_once(credentials: Credentials, tmp_path: Path) -> None:
    token = NodeToken(tmp_path, None, credentials)
    token.settle({})
    before = read_token(tmp_path / FILE)
    token.heard({"n1": 1})
    after = read_token(tmp_path / FILE)
    assert not lets_in(token, before)
    assert lets_in(token, after)
    started_again = NodeToken(tmp_path, None, credentials)
    started_again.settle({"n1": 1})
    assert lets_in(started_again, after)
    assert not lets_in(started_again, before)
    started_again.heard({"n1": 1, "n2": 3})
    assert not lets_in(started_again, after)
    with pytest.raises(JoinError, match="from before a node of the cluster was revoked: copy the agent's file"):
        started_again.check(before)


def test_what_was_revoked_while_the_agent_was_down_is_made_good_at_its_start(
    credentials: Credentials, tmp_path: Path
) -> None:
    NodeToken(tmp_path, None, credentials).settle({})
    before = read_token(tmp_path / FILE)
    token = NodeToken(tmp_path, None, credentials)
    token.settle({"n1": 1})
    assert not lets_in(token, before)
    assert lets_in(token, read_token(tmp_path / FILE))


def test_a_crash_before_the_new_token_is_written_lets_nobody_in(credentials: Credentials, tmp_path: Path) -> None:
    token = NodeToken(tmp_path, None, credentials)
    token.settle({})
    before = read_token(tmp_path / FILE)
    token.heard({"n1": 1})
    (tmp_path / FILE).write_text(before)  # as it would be
    assert not lets_in(token, before)
    started_again = NodeToken(tmp_path, None, credentials)
    started_again.settle({"n1": 1})
    assert read_token(tmp_path / FILE) != before
    assert lets_in(started_again, read_token(tmp_path / FILE))


def test_a_disk_that_takes_nothing_lets_nobody_in(
    credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    token = NodeToken(tmp_path, None, credentials)
    token.settle({})
    before = read_token(tmp_path / FILE)
    with monkeypatch.context() as patched:
        patched.setattr("cluster_agent.membership.node_token.replace_whole", full)
        token.heard({"n1": 1})
        assert not lets_in(token, before)
    started_again = NodeToken(tmp_path, None, credentials)
    started_again.settle({"n1": 1})
    assert not lets_in(started_again, before)


def test_a_file_of_somebody_else_is_not_written_and_counts_again_with_another_token(
    credentials: Credentials, members: Members, tmp_path: Path
) -> None:
    given = tmp_path / "secret" / FILE
    given.parent.mkdir()
    before, after = (new_node_token(members.authority.hash) for _ in range(2))
    given.write_text(before)
    token = NodeToken(tmp_path, given, credentials)
    token.settle({})
    assert lets_in(token, before)
    token.heard({"n1": 1})
    assert given.read_text() == before
    assert not lets_in(token, before)
    with pytest.raises(JoinError, match="has to be given a new node token first"):
        token.check(after)
    given.write_text(after)
    assert lets_in(token, after)
    assert not lets_in(token, before)
