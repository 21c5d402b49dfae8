"""Settings of the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from search.locations import storage_url
from service.queue import QueueLimits

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the service, given when it starts.

    Attributes:
        storage: Results database, as an SQLAlchemy URL.
        keys_required: Whether each request needs a client's key.
        queue: How many jobs may wait; more are rejected.
        max_budget: Largest number of evaluations of one job.
        max_body_bytes: Largest body of a request but for uploads of images.
        max_upload_bytes: Largest upload of images.
        max_unpacked_bytes: The most that the arrays of an upload may take once they are decompressed.
        max_uploads: Number of clients that may upload images at a time; more are rejected.
        image_dir: Folder of images, as for `search.Workplace`.
        hosts: Host names that requests may use, None for any; others are rejected, so that no page of another site can
            reach a service that listens to this machine only.
        max_wait_s: Longest time that a client may request by `Prefer: wait`.
        max_streams: Number of clients that may wait for or follow jobs at a time; more are rejected.
    """

    storage: str
    keys_required: bool = False
    queue: QueueLimits = field(default_factory=lambda: QueueLimits(total=100, per_client=100))
    max_budget: int = 1000
    max_body_bytes: int = 2**20
    max_upload_bytes: int = 200 * 10**6
    max_unpacked_bytes: int = 10**9
    max_uploads: int = 5
    image_dir: Path | None = None
    hosts: tuple[str, ...] | None = LOOPBACK
    max_wait_s: float = 60.0
    max_streams: int = 200

    @classmethod
    def of(cls, storage: str | None, *, keys_required: bool = False) -> Settings:
        """The settings for a database given as for `search --storage`."""
        return cls(storage=storage_url(storage), keys_required=keys_required)
