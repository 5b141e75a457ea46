"""What can go wrong with making manifests; each message says what to do."""

from __future__ import annotations


class ManifestError(Exception):
    """The manifest can't be made."""
