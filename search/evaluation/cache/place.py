"""The interface between the rules of the cache and the place where it stores stages.

A stage may disappear at any moment, because other processes evict and repair stages too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

STAGE, PARTIAL = ".pt", ".partial"  # file endings: a stage, and one that is being written

LEFTOVER_S = 3600.0
"""Age after which the leftovers of killed writers are removed: far longer than writing takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedStage:
    """A stage in the cache.

    Attributes:
        key: Content hash of everything it depends on.
        size_bytes: Size of its content.
        used_s: Time of its last use, in seconds; comparable within one place.
    """

    key: str
    size_bytes: int
    used_s: float


class CachePlace(Protocol):
    """Stores contents under content hashes. Every method but `claimed` may raise OSError."""

    def read(self, key: str) -> bytes | None:
        """Return the content stored under a key, or None."""
        ...

    def holds(self, key: str) -> bool:
        """Return whether a content is stored under a key."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Store a content: whole or, if an error is raised, not at all."""
        ...

    def remove(self, key: str) -> None:
        """Remove a content if it is there."""
        ...

    def mark_used(self, key: str) -> None:
        """Record a use for `survey`, if possible."""
        ...

    def survey(self) -> list[CachedStage]:
        """Return all stages, and remove what killed writers left."""
        ...

    def claimed(self, key: str) -> AbstractContextManager[None]:
        """Wait until no other worker computes this stage, then keep others out until the context is left.

        The claim of a killed worker ends with it. The content may already be there on entering.

        Raises:
            OSError: On entering, if claims are not possible.
        """
        ...
