"""Content hashes: what results are stored under, so that equal content is found again and other content never is."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def content_hash(content: Any) -> str:
    """Return the SHA-256, in hex, of a JSON value in its one canonical spelling.

    Raises:
        ValueError: If the value holds a number that JSON lacks, such as NaN.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seed_of(key: str) -> int:
    """Return a seed for torch.Generator from a content hash."""
    return int(key[:12], 16)
