"""A second request that is shared settles only what was answered before it was sent, and by the same etcd."""

from __future__ import annotations

import asyncio

from control_plane.store.etcd.settling import Settler


class Server:
    """Answers second requests when it is told to, with its term."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[int]] = []

    async def ask(self) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        return await answer


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_write_is_settled_by_one_that_was_sent_after_it_and_many_share_one() -> None:
    server = Server()
    settler = Settler(server.ask)
    first = asyncio.create_task(settler.settled(7))
    await turns()
    assert len(server.answers) == 1
    later = [asyncio.create_task(settler.settled(7)) for _ in range(3)]
    await turns()
    assert len(server.answers) == 1, "one at a time"
    server.answers[0].set_result(7)
    await turns()
    assert first.done()
    assert not any(task.done() for task in later), "the first was sent before these were answered"
    assert len(server.answers) == 2
    server.answers[1].set_result(7)
    assert await asyncio.gather(first, *later) == [True] * 4


async def test_a_failed_second_write_is_the_failure_of_all_that_waited_for_it_and_of_no_other() -> None:
    server = Server()
    settler = Settler(server.ask)
    both = [asyncio.create_task(settler.settled(7)) for _ in range(2)]
    await turns()
    third = asyncio.create_task(settler.settled(7))
    await turns()
    server.answers[0].set_exception(ConnectionError())
    assert [type(result) for result in await asyncio.gather(*both, return_exceptions=True)] == [ConnectionError] * 2
    await turns()
    server.answers[1].set_result(7)
    assert await third


async def test_what_an_etcd_before_the_last_start_has_answered_is_not_settled_by_this_one() -> None:
    server = Server()
    settler = Settler(server.ask)
    before, after = (asyncio.create_task(settler.settled(term)) for term in (6, 7))
    await turns()
    server.answers[0].set_result(7)
    assert await asyncio.gather(before, after) == [False, True]
