"""How often hypothesis tries what takes long."""

from __future__ import annotations

from hypothesis import settings

# A quarter of the profile's examples: each is a whole run, with many chances in one.
few = settings(max_examples=max(10, (settings.default or settings()).max_examples // 4))
