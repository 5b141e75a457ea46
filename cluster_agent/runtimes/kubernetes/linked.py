"""A pod that the daemon is linked with, or tries to be: its directories, the link to its starter, its fate.

The starter's socket appears in the pod's directory, which no API tells of; so it is looked for. What is started in the
pod goes by way of the link, and ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes.link import NotYetError, StarterLink
from cluster_agent.runtimes.kubernetes.messages import Linked, Unlinked
from cluster_agent.runtimes.kubernetes.place import Place
from cluster_agent.runtimes.kubernetes.worker import Fate
from cluster_agent.runtimes.process.places import Places

_LOOK_SECONDS: Final = 0.025
_Inside = TypeVar("_Inside")


class LinkedPod:
    """`places` are small tasks' own; there are some once there was a link."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.places: Places | None = None
        self.fate = Fate()
        self._link: StarterLink | None = None
        self._linking: asyncio.Task[None] | None = None

    @property
    def link(self) -> StarterLink:
        """Of a pod that was linked with."""
        assert self._link is not None
        return self._link

    def connect(self, tell: Callable[[Linked | Unlinked], None]) -> None:
        """Link up with the starter once it is there, and tell; also when the link is over."""
        self._linking = asyncio.create_task(self._connect(tell))

    def silence(self) -> None:
        """Tell nothing any more, and link up with nobody."""
        if self._linking is not None:
            self._linking.cancel()

    async def cut(self) -> None:
        """The link is over, or will not come about."""
        self.silence()
        linking, self._linking = self._linking, None
        if linking is not None:
            await asyncio.gather(linking, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    async def explained(self, starting: Awaitable[_Inside]) -> _Inside:
        """What is started in the pod; StartError, with the pod's end in it if that was behind it."""
        try:
            return await starting
        except StartError as error:
            reason = None if self.link.present else await self.fate.learn()
            if reason is not None:
                raise StartError(reason.text, error.detail) from None
            raise

    async def _connect(self, tell: Callable[[Linked | Unlinked], None]) -> None:
        try:
            link = self._link = await self._linked()  # from now on it is closed with the pod, whatever comes
            self.places = await asyncio.to_thread(self.place.small)
        except (StartError, OSError) as error:
            tell(Unlinked(self.name, str(error)))
            return
        self.fate = Fate()
        tell(Linked(self.name))
        await link.gone.wait()
        tell(Unlinked(self.name, "the pod's starter is gone"))

    async def _linked(self) -> StarterLink:
        while True:
            link = StarterLink(self.place.socket)
            try:
                await link.open()
                return link
            except NotYetError:
                await asyncio.sleep(_LOOK_SECONDS)
