"""Revocations: what is revoked stays so, whoever passes the word on, and only the authority can give it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1.membership_pb2 import SignedRevocations
from wire.identity import Identity, Role
from wire.identity.authority import Authority
from wire.identity.revocations import Revocations, as_mapping, believed, statement

NAMES = ["edge1", "edge1/n1", "edge1/n2", "edge2", "cloud", "cloud/n1"]
lists = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 5))


@pytest.mark.parametrize("role_and_name", [(Role.AGENT, "edge1"), (Role.NODE, "edge1/n1")])
def test_lower_generations_are_refused_and_others_are_not(role_and_name: tuple[Role, str]) -> None:
    revocations = Revocations({"edge1": 2})
    for generation, refused in ((0, True), (1, True), (2, False), (3, False)):
        assert bool(revocations.refusal(Identity(*role_and_name, generation))) is refused


def test_a_node_is_revoked_by_itself_and_its_cluster_and_its_neighbours_are_not() -> None:
    revocations = Revocations({"edge1": 2, "edge1/n1": 4})
    for generation, refused in ((1, True), (3, True), (4, False)):
        assert bool(revocations.refusal(Identity(Role.NODE, "edge1/n1", generation))) is refused
    for role, name in ((Role.AGENT, "edge1"), (Role.NODE, "edge1/n2"), (Role.NODE, "edge2/n1")):
        assert revocations.refusal(Identity(role, name, 2)) == ""
    assert "has to join again, with the token" in revocations.refusal(Identity(Role.NODE, "edge1/n1", 2))
    assert revocations.nodes_of("edge1") == {"n1": 4}


def test_what_is_revoked_with_its_cluster_is_not_told_twice() -> None:
    revocations = Revocations({"edge1/n1": 1, "edge2/n1": 1})
    revocations.learn({"edge1": 2})
    assert [each.name for each in revocations.to_proto()] == ["edge1", "edge2/n1"]
    assert revocations.nodes_of("edge1") == {}
    assert revocations.refusal(Identity(Role.NODE, "edge1/n1", 1))


@given(lists, st.sampled_from(NAMES), st.integers(0, 6))
def test_what_is_told_says_all_that_is_known(known: dict[str, int], name: str, generation: int) -> None:
    one = Revocations(known)
    other = Revocations(as_mapping(one.to_proto()))
    member = Identity(Role.NODE if "/" in name else Role.AGENT, name, generation)
    assert one.refusal(member) == other.refusal(member)


def test_who_is_no_member_of_a_cluster_is_not_concerned() -> None:
    revocations = Revocations({"ada": 9, "edge1": 9})
    assert revocations.refusal(Identity(Role.USER, "ada")) == ""
    assert revocations.refusal(Identity(Role.AGENT, "edge2")) == ""


@given(st.lists(lists), st.randoms())
def test_the_order_in_which_lists_come_does_not_matter(told: list[dict[str, int]], random: object) -> None:
    one, other = Revocations(), Revocations()
    for each in told:
        one.learn(each)
    for each in sorted(told, key=lambda _: random.random()):  # type: ignore[attr-defined]
        other.learn(each)
    assert one.known() == other.known()


@given(lists, lists)
def test_news_are_what_was_not_known(before: dict[str, int], told: dict[str, int]) -> None:
    revocations = Revocations(before)
    news = revocations.learn(told)
    known = Revocations(before)
    assert news == {name for name, generation in told.items() if generation > known.valid_from(name)}
    assert revocations.learn(told) == set()


def test_a_signed_list_is_believed_and_a_changed_one_is_not(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    list_ = statement(Revocations({"edge1": 2}))
    signed = SignedRevocations(list=list_, signature=authority.sign(list_))
    assert believed(signed, authority.pem) == {"edge1": 2}
    forged = SignedRevocations(list=statement(Revocations({"cloud": 7})), signature=signed.signature)
    assert believed(forged, authority.pem) is None
    assert believed(signed, Authority.create(tmp_path / "foreign").pem) is None
