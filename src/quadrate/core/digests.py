"""Short digests of texts, for the names of folders."""

from __future__ import annotations

import hashlib


def digest(*texts: str) -> str:
    """The first 12 hexadecimal digits of a SHA-256 over texts."""
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:12]
