"""What the service is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from search.locations import storage_url
from service.jobs import QueueLimits

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the service runs.

    Attributes:
        storage: Results database, as an SQLAlchemy URL.
        keys_required: Whether each request needs a client's key.
        queue: How many jobs may wait; more are refused.
        largest_budget: Evaluations of one job.
        most_body_bytes: Of a request.
        hosts: Names under which it is asked; others are refused, so that no page of another site can reach what listens
            to this machine alone. None for any.
        longest_wait_s: That a client may ask for by `Prefer: wait`.
        most_streams: Clients that may wait or follow jobs at a time; more are refused.
    """

    storage: str
    keys_required: bool = False
    queue: QueueLimits = field(default_factory=lambda: QueueLimits(all=100, each=100))
    largest_budget: int = 1000
    most_body_bytes: int = 2**20
    hosts: tuple[str, ...] | None = LOOPBACK
    longest_wait_s: float = 60.0
    most_streams: int = 200

    @classmethod
    def of(cls, storage: str | None, *, keys_required: bool = False) -> Settings:
        """Those of a database as `search --storage` takes it."""
        return cls(storage=storage_url(storage), keys_required=keys_required)
