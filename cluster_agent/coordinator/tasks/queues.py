"""A step's tasks that wait for a node, in the order in which they get one.

First comes what somebody may be waiting for, since that begins where all else is held back. Then what another cluster
has sent here; of both the newest first. At the end come the rest, the oldest first.
"""

from __future__ import annotations

from collections import deque


class Queue(deque[bytes]):
    """See the module. It is read as what it is; tasks are put in and taken out by these methods alone."""

    __slots__ = ("_awaited",)

    def __init__(self) -> None:
        super().__init__()
        self._awaited = 0  # tasks at the head that somebody may be waiting for

    def put_awaited(self, task: bytes) -> None:
        """Before all others."""
        self.appendleft(task)
        self._awaited += 1

    def put_sent(self, task: bytes) -> None:
        """Before all but those that are awaited."""
        self.insert(self._awaited, task)

    def put(self, task: bytes) -> None:
        """At the end."""
        self.append(task)

    def take(self, task: bytes) -> bool:
        """Take a task out, which mostly stands at one of the ends; whether it stood here at all."""
        if not self:
            return False
        if self[0] == task:
            self.popleft()
            self._awaited -= self._awaited > 0
        elif self[-1] == task:
            self.pop()
            self._awaited = min(self._awaited, len(self))
        elif task in self:
            place = self.index(task)
            del self[place]
            self._awaited -= place < self._awaited
        else:
            return False
        return True

    def clear(self) -> None:
        """Take all out."""
        super().clear()
        self._awaited = 0
