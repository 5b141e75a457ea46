"""What the tier in object storage needs to know of the place where outputs of ended runs lie for all nodes alike.

It is made elsewhere (see `shared.keeping`), since what is put there is put by what puts all shared units.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from cluster_agent.data.base import Content, UnitKey

Run = tuple[str, str]


class Kept(Protocol):
    """Objects of units: any node of the cluster finds them by the units' names, and none deletes them by itself."""

    def name(self, key: UnitKey) -> str:
        """The object of a unit."""

    async def put(self, keys: Sequence[UnitKey], content: Content, source: str = "") -> bool:
        """Have the bytes of a content lie there for all these units; False if that gives other bytes.

        `source`: the object to make them of, else its file is. SharedStoreError: not now.
        """

    def copy(self, run: Run, units: Collection[bytes]) -> None:
        """These lie on this node, and shall lie there too."""

    def there(self, run: Run, units: Sequence[bytes]) -> None:
        """These lie there only, as an earlier process may have failed to say."""
