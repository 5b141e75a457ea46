"""`Client`: the hub, from a program that runs an asyncio event loop."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from bdw_fed.client.connection import Profile, find_profile
from bdw_fed.client.runs import Runs
from bdw_fed.client.transport import AsyncTransport


class Client(Runs):
    """The hub's services as coroutines.

    `profile` says which hub and as whom (default: found as bdw_fed.client.connection describes; `state` names the
    state directory of a federation on this machine). Every method raises a bdw_fed.client.errors.ClientError.

        async with Client() as client:
            run = (await client.submit("delays")).run
            run = await client.wait(run.name)
            await client.download(run.name, Path("out"))
    """

    def __init__(
        self, profile: Profile | None = None, *, state: Path | None = None, namespace: str | None = None
    ) -> None:
        chosen = profile or find_profile(state)
        super().__init__(AsyncTransport(chosen), namespace or chosen.namespace)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back."""
        await self._transport.close()
