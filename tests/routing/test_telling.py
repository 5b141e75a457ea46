"""How busy a cluster is travels with what is sent anyway, by itself if nothing is, and only the newest word of it."""

from __future__ import annotations

from bdw_fed.v1.peer_pb2 import Load, Offer, PeerFrame, PeerMessage
from cluster_agent.peer.core import RELAY, Peering

PATH = 1


def load(wanted: float) -> bytes:
    return Load(number=1, cpus_wanted=wanted).SerializeToString()


def met() -> tuple[Peering, Peering]:
    """Two sessions over one stream that have greeted each other."""
    ours, theirs = Peering("edge1", b"1" * 16), Peering("cloud1", b"2" * 16)
    ours.opened(PATH)
    pass_on(ours, theirs)
    pass_on(theirs, ours)
    pass_on(ours, theirs)
    return ours, theirs


def pass_on(sender: Peering, receiver: Peering) -> list[float]:
    """What the receiver hears of the sender's load."""
    heard = [receiver.heard(path, frame) for path, frame in sender.flush(0.0)]
    return [Load.FromString(each.load).cpus_wanted for each in heard if each.load]


def test_it_rides_on_messages_and_goes_by_itself_if_there_are_none() -> None:
    ours, theirs = met()
    ours.load(load(3.0))
    ours.pushed([(1, PeerMessage(run="r", offer=Offer(edge="e")).SerializeToString())])
    frames = ours.flush(0.0)
    assert len(frames) == 1
    heard = theirs.heard(*frames[0])
    assert len(heard.messages) == 1
    assert Load.FromString(heard.load).cpus_wanted == 3.0
    ours.load(load(4.0))
    assert pass_on(ours, theirs) == [4.0]
    assert pass_on(ours, theirs) == [], "it is said once"


def test_only_the_newest_word_goes_and_it_waits_for_a_path() -> None:
    ours, theirs = met()
    ours.closed(PATH)
    ours.load(load(1.0))
    ours.load(load(2.0))
    assert pass_on(ours, theirs) == []
    ours.opened(PATH + 1)
    theirs.opened(PATH + 1)
    said = []
    for _ in range(3):
        said += pass_on(ours, theirs)
        pass_on(theirs, ours)
    assert said == [2.0]


def test_without_a_stream_it_goes_through_the_hub() -> None:
    ours, theirs = Peering("edge1", b"1" * 16), Peering("cloud1", b"2" * 16)
    for session in (ours, theirs):
        session.relay_up()
    ours.load(load(5.0))
    said = []
    for _ in range(3):
        frames = ours.flush(0.0)
        assert all(path == RELAY for path, _ in frames)
        said += [
            Load.FromString(each.load).cpus_wanted for each in (theirs.heard(*frame) for frame in frames) if each.load
        ]
        pass_on(theirs, ours)
    assert said == [5.0]


def test_a_word_of_a_former_life_is_not_heard() -> None:
    _, theirs = met()
    late = PeerFrame(log_id=b"1" * 16, cluster="edge1", load=Load(cpus_wanted=9.0))
    new = Peering("edge1", b"3" * 16)
    new.opened(PATH + 1)
    pass_on(new, theirs)
    assert theirs.heard(PATH, late).load == b""
