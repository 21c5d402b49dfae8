"""What a place that keeps stages can do: the seam between the rules of the cache and where its files are.

A place may lose what it keeps at any moment, because other processes evict and repair there too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

STAGE, PARTIAL = ".pt", ".partial"  # endings of names: a stage, and one that is being written

LEFTOVER_S = 3600.0
"""Age at which what a writer leaves only when it is killed is cleaned away: far more than writing takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedStage:
    """A stage that a place keeps.

    Attributes:
        key: Its content hash.
        size_bytes: Of its content.
        used_s: When it was last used, in seconds; comparable within one place.
    """

    key: str
    size_bytes: int
    used_s: float


class CachePlace(Protocol):
    """Keeps contents under content hashes. Every method but `claimed` raises OSError for what the place cannot do."""

    def read(self, key: str) -> bytes | None:
        """The content kept under a key, or None."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Keep a content: afterwards it is there whole or, after an error, not at all."""
        ...

    def remove(self, key: str) -> None:
        """Keep it no more; nothing happens where it is not kept."""
        ...

    def mark_used(self, key: str) -> None:
        """Note a use, for `survey` to tell; where that cannot be noted, nothing happens."""
        ...

    def survey(self) -> list[CachedStage]:
        """All that is kept. Cleans away what killed writers left."""
        ...

    def claimed(self, key: str) -> AbstractContextManager[None]:
        """Enter when no other worker computes this stage, and keep the others out meanwhile.

        A worker that is killed gives up its claim. The content may be there already when this is entered.

        Raises:
            OSError: On entering, if the place cannot tell who computes what.
        """
        ...
