"""Where a search works: its database, its images, its cache and its workers, as one value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.api.checks import given_fields
from search.errors import UsageError
from search.images.places import ImagePlaces
from search.locations import cache_limit_bytes, cache_location, storage_url
from search.multipliers.folder import MultiplierFolder

if TYPE_CHECKING:
    from search.evaluation.cache.cache import TrainingCache


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Workplace:
    """Where evaluations are made and kept. Without arguments: here, with one worker a core.

    Attributes:
        storage: Results database: an SQLAlchemy URL or the path of an SQLite file; by default $CROSSLAYER_STORAGE, else
            a file in the user's data folder.
        data_dir: Folder of built-in data sets; by default $CROSSLAYER_DATA_DIR, else in the user's cache folder.
        image_dir: Folder of other images, which are stored there; by default $CROSSLAYER_IMAGE_DIR, else in the user's
            data folder.
        cache: Folder or fsspec URL of trained networks; by default $CROSSLAYER_CACHE, else beside the results.
        cache_limit: Size above which the least recently used networks are removed, such as "10GB", or in bytes; by
            default $CROSSLAYER_CACHE_LIMIT, else 10 GB.
        workers: Ray workers; by default one a core, or all of a cluster. 0 evaluates in this process, without Ray.
        ray_address: Ray cluster to join, as `ray.init` takes it.
        multiplier_dir: Folder of imported multipliers; by default $CROSSLAYER_MULTIPLIER_DIR, else in the user's data
            folder.
        timeout_s: Seconds after which an evaluation is stopped; by default many times what others took.

    Raises:
        UsageError: If a value is of the wrong type or out of range, or asks for Ray where `workers` is 0.
    """

    storage: str | os.PathLike[str] | None = None
    data_dir: str | os.PathLike[str] | None = None
    image_dir: str | os.PathLike[str] | None = None
    cache: str | os.PathLike[str] | None = None
    cache_limit: str | int | None = None
    workers: int | None = None
    ray_address: str | None = None
    timeout_s: float | None = None
    multiplier_dir: str | os.PathLike[str] | None = None

    def __repr__(self) -> str:
        return given_fields(self)

    def __post_init__(self) -> None:
        for name in ("storage", "data_dir", "image_dir", "cache", "multiplier_dir"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str | os.PathLike):
                raise UsageError(f"`{name}` must be a path or a URL, got {value!r}")
        if self.cache_limit is not None and not isinstance(self.cache_limit, str | int):
            raise UsageError(f"`cache_limit` must be bytes or a size such as '10GB', got {self.cache_limit!r}")
        if self.workers is not None and (
            not isinstance(self.workers, int) or isinstance(self.workers, bool) or self.workers < 0
        ):
            raise UsageError(f"`workers` must be a whole number of at least 0, got {self.workers!r}")
        if self.ray_address is not None and not isinstance(self.ray_address, str):
            raise UsageError(f"`ray_address` must be text, such as 'auto', got {self.ray_address!r}")
        if self.timeout_s is not None and (
            not isinstance(self.timeout_s, int | float) or isinstance(self.timeout_s, bool) or not self.timeout_s > 0
        ):
            raise UsageError(f"`timeout_s` must be above 0 seconds, got {self.timeout_s!r}")
        for name, given in (("ray_address", self.ray_address), ("timeout_s", self.timeout_s)):
            if self.workers == 0 and given is not None:
                raise UsageError(f"`{name}` has no effect where `workers` is 0, which evaluates in this process")

    @property
    def url(self) -> str:
        """The results database as an SQLAlchemy URL.

        Raises:
            UsageError: If it looks like a URL and is not one.
        """
        return storage_url(None if self.storage is None else os.fspath(self.storage))

    @property
    def images(self) -> ImagePlaces:
        """Where images are."""
        return ImagePlaces.at(self.data_dir, self.image_dir)

    @property
    def multipliers(self) -> MultiplierFolder:
        """The folder of imported multipliers."""
        return (
            MultiplierFolder.default() if self.multiplier_dir is None else MultiplierFolder(Path(self.multiplier_dir))
        )

    def open_cache(self) -> TrainingCache:
        """Open the cache of trained networks.

        Raises:
            UsageError: If its place or its limit is of no use.
        """
        from search.evaluation.cache.cache import TrainingCache  # imported late, because it brings fsspec

        return TrainingCache(cache_location(self.cache, self.url), limit_bytes=cache_limit_bytes(self.cache_limit))

    @property
    def worker_count(self) -> int | None:
        """How many workers are started: as given, else one a core, or None for all of a cluster."""
        return default_workers() if self.workers is None and self.ray_address is None else self.workers


def default_workers() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
