"""Makes pods: asks whether there is room, makes the directories, has the API server make the pod.

Quotas are asked before, for what they say names what is missing. Those of our pods that are going, or that nobody uses,
still take room until they are gone, which is waited for.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from cluster_agent.runtimes.kubernetes.admission import Limits, Refusal
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import AlreadyExists, ApiError, Unavailable
from cluster_agent.runtimes.kubernetes.api.objects.kinds import PODS
from cluster_agent.runtimes.kubernetes.api.reasons import reason_of_refusal
from cluster_agent.runtimes.kubernetes.manifest import Settings, Template, identity_of

_TRIES: Final = 5  # of one whose answer was lost
_GONE_SECONDS: Final = 60.0  # that the next of ours has to go


class Others(Protocol):
    """Our other pods, which may leave their room. `gone` is set when the next of them is gone."""

    gone: asyncio.Event

    @property
    def leaving(self) -> bool:
        """Whether any is about to go."""
        ...

    def give_room(self) -> bool:
        """Have those deleted that nobody uses; whether there are any."""
        ...


class Creator:
    """Makes the pods of one daemon."""

    def __init__(self, client: Client, settings: Settings, others: Others) -> None:
        self._client = client
        self._settings = settings
        self._others = others
        self._limits = Limits(client, settings.namespace)

    async def create(self, name: str, made: Template) -> Refusal | None:
        """Create a pod of this name, unless it is known that there is no room for it; why it could not be."""
        identity = identity_of(name)
        place = self._settings.roots.place(identity)
        try:
            if refusal := await self._refusal(made):
                return refusal
            await asyncio.to_thread(place.make, watching=made.spec.watching is not None)
            try:
                await self._create(made.manifest(identity))
            except ApiError as error:
                if not _is_quota(error):
                    raise
                self._limits.forget()  # it was older than that; and those of ours that are going leave room
                if await self._refusal(made) is not None:
                    raise
                await self._create(made.manifest(identity))
        except ApiError as error:
            reason = reason_of_refusal(error)
            return Refusal(reason.text if reason is not None else f"no pod can be made: {error}", _is_quota(error))
        except OSError as error:
            return Refusal(f"the pod's directory could not be made: {error}", no_room=False)
        return None

    async def close(self) -> None:
        """Give up reading quotas."""
        await self._limits.close()

    async def _refusal(self, made: Template) -> Refusal | None:
        """Why there can't be such a pod just now. ApiError."""
        while True:
            leaving, gone = self._others.leaving, self._others.gone  # before it is read: it may be so no more after
            refusal = await self._limits.refusal(made.asking)
            if refusal is None or not refusal.no_room:
                return refusal
            spare = self._others.give_room()
            if not (leaving or spare):
                return refusal
            try:
                async with asyncio.timeout(_GONE_SECONDS):
                    await gone.wait()
            except TimeoutError:
                return refusal
            self._limits.forget()

    async def _create(self, manifest: dict[str, Any]) -> None:
        """Its name is its own, so that one which is there was made by an earlier try. ApiError."""
        for left in reversed(range(_TRIES)):
            try:
                await self._client.create(PODS, manifest, self._settings.namespace)
                return
            except AlreadyExists:
                return
            except Unavailable as error:
                if not error.uncertain or not left:
                    raise


def _is_quota(error: ApiError) -> bool:
    reason = reason_of_refusal(error)
    return reason is not None and reason.cause == "quota"
