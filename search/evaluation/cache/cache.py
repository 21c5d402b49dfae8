"""A cache of trained stages: tensors under a content hash of everything they depend on.

Finished networks of evaluations are kept in it too; see `search.evaluation.finished`. All workers and searches that use
the same location share it. Whatever goes wrong with it, from a full disk to a flipped bit, costs time and never a
result.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from search.errors import UsageError
from search.evaluation.cache.folder import CacheFolder
from search.evaluation.cache.objects import CacheObjects
from search.evaluation.cache.place import CachedStage, CachePlace
from search.locations import printable

if TYPE_CHECKING:
    from torch import Tensor

Tensors: TypeAlias = "dict[str, Tensor]"

_logger = logging.getLogger(__name__)

# A file is this header, the SHA-256 of the rest, and torch.save's output, whose archive checks names, not tensors.
_FORMAT = b"crosslayer stage 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size

_FINISHED = "-finished"  # ends the key of a finished network
_EVICTED_TO = 0.9
_OF_FINISHED = 0.5  # share of the limit up to which finished networks stay longer than stages
_SURVEYED_EVERY = 0.01


class TrainingCache:
    """Caches the results of stages in a folder or behind an fsspec URL. Can be sent to other processes.

    When the cache exceeds its limit, the least recently used stages are evicted until it is 90 % full. Finished
    networks go last, as a stage only saves time: those used most recently that take no more than half of the limit. A
    worker checks the size at its first stage and whenever it has written 1 % of the limit, so the cache may exceed the
    limit by that much per worker.

    Args:
        location: A folder, or a URL whose protocol fsspec supports, such as `s3://bucket/stages`. A cache under
            `memory://` is visible to one process only.
        limit_bytes: Maximum size of the cache; None for no limit.

    Raises:
        UsageError: If the URL's protocol is unknown, its driver is not installed, or it cannot be opened.
    """

    def __init__(self, location: str | Path, *, limit_bytes: int | None = None) -> None:
        self._location = printable(location)
        self._place = _open_place(location)
        self._limit = math.inf if limit_bytes is None else limit_bytes
        self._until_survey: float = 0
        self._warned: set[str] = set()

    def get_or_compute(self, key: str, compute: Callable[[], Tensors]) -> Tensors:
        """Return the result cached under `key`; if it is missing or damaged, compute and cache it.

        If several workers want the same stage, one computes it and the others wait; if that one dies, another takes
        over. If a result cannot be cached it is still returned, with one warning.

        Args:
            key: Content hash, in hex, of everything that the result depends on.
            compute: Called at most once. Its exceptions are passed on.

        Returns:
            The tensors that `compute` returned, in this process or another; on the CPU if they were cached.
        """
        cached = self._read(key)
        if cached is not None:
            return cached
        with ExitStack() as claim:
            try:
                claim.enter_context(self._place.claimed(key))
            except OSError as error:
                self._warn_unusable(error)
            cached = self._read(key, repair=True)
            if cached is not None:
                return cached
            result = compute()
            self._write(key, result)
        return result

    def find_finished(self, key: str) -> Tensors | None:
        """Return the finished network kept under a key, on the CPU; None if there is none, or it is damaged."""
        return self._read(key + _FINISHED)

    def holds_finished(self, key: str) -> bool:
        """Return whether a finished network is kept under a key."""
        try:
            return self._place.holds(key + _FINISHED)
        except OSError as error:
            self._warn_unusable(error)
            return False

    def keep_finished(self, key: str, network: Tensors) -> None:
        """Keep a finished network; if it cannot be kept, there is one warning.

        Args:
            key: Content hash, in hex, of everything that it depends on.
            network: Its tensors.
        """
        self._write(key + _FINISHED, network)

    @property
    def location(self) -> str:
        """Where it is, without a password."""
        return self._location

    def why_unwritable(self) -> str | None:
        """Return why nothing can be cached, found by trying, or None; the reason is not logged again."""
        key = uuid4().hex
        try:
            self._place.write(key, b"")
            self._place.remove(key)
        except OSError as error:
            self._warned.add("unusable")
            return self._unusable(error)
        return None

    def _read(self, key: str, *, repair: bool = False) -> Tensors | None:
        """Return a cached stage if it is whole. A damaged one is removed if `repair`, which only the claim allows."""
        try:
            content = self._place.read(key)
            if content is None:
                return None
            tensors = _decode(content)
            if tensors is not None:
                self._place.mark_used(key)
            elif repair:
                self._warn("damaged", f"a trained network in {self._location} is damaged ({key}) and is retrained")
                self._place.remove(key)
        except OSError as error:
            self._warn_unusable(error)
            return None
        return tensors

    def _write(self, key: str, result: Tensors) -> None:
        content = _encode(result)
        if len(content) > _EVICTED_TO * self._limit:
            self._warn("large", f"a trained network of {len(content)} bytes is not cached: the limit is {self._limit}")
            return
        try:
            self._place.write(key, content)
            self._until_survey -= len(content)
            if self._until_survey < 0:
                self._evict(but=key)
        except OSError as error:
            self._warn_unusable(error)

    def _evict(self, *, but: str) -> None:
        """Evict stages until the cache is within its limit; `but` was just written and stays."""
        cached = self._place.survey()
        total = sum(stage.size_bytes for stage in cached)
        if total > self._limit:
            for stage in _first_evicted_first(cached, _OF_FINISHED * self._limit):
                if total <= _EVICTED_TO * self._limit:
                    break
                if stage.key != but:
                    self._place.remove(stage.key)
                    total -= stage.size_bytes
        self._until_survey = min(self._limit - total, _SURVEYED_EVERY * self._limit)

    def _unusable(self, error: OSError) -> str:
        return f"trained networks cannot be cached in {self._location} ({error}); the search continues without a cache"

    def _warn_unusable(self, error: OSError) -> None:
        self._warn("unusable", self._unusable(error))

    def _warn(self, kind: str, text: str) -> None:
        """Log a warning once per kind, because thousands of stages would repeat it."""
        if kind not in self._warned:
            self._warned.add(kind)
            _logger.warning("%s", text)


def _first_evicted_first(cached: Iterable[CachedStage], of_finished: float) -> list[CachedStage]:
    """Return stages and finished networks in the order in which they are evicted.

    Args:
        cached: All of them.
        of_finished: Bytes of finished networks, the most recently used ones, that are evicted after all else.
    """
    oldest_first = sorted(cached, key=lambda stage: stage.used_s)
    room, last = of_finished, set()
    for stage in reversed(oldest_first):
        if stage.key.endswith(_FINISHED):
            room -= stage.size_bytes
            if room >= 0:
                last.add(stage.key)
    return sorted(oldest_first, key=lambda stage: stage.key in last)


def _open_place(location: str | Path) -> CachePlace:
    text = os.fspath(location)
    if "://" not in text:
        return _open_folder(text)
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    protocol = text.partition("://")[0]
    try:
        filesystem, root = fsspec.core.url_to_fs(text)
    except ImportError as error:  # says which package to install
        raise UsageError(f"`cache` {printable(text)}: {error} ({protocol}:// needs its own package)") from None
    except Exception as error:  # drivers raise errors of many kinds
        if protocol not in fsspec.available_protocols():
            raise UsageError(
                f"`cache` {printable(text)}: unknown protocol {protocol}://; give a folder or a URL that "
                "fsspec supports, such as s3://BUCKET/FOLDER"
            ) from None
        raise UsageError(f"`cache` {printable(text)} cannot be opened: {error}") from error
    return _open_folder(root) if isinstance(filesystem, LocalFileSystem) else CacheObjects(filesystem, root)


def _open_folder(path: str) -> CacheFolder:
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`cache` {path} is a file; give a folder or a URL")
    return CacheFolder(folder)


def _encode(tensors: Tensors) -> bytes:
    import torch

    payload = io.BytesIO()
    torch.save(tensors, payload)
    content = payload.getbuffer()
    return b"".join((_FORMAT, hashlib.sha256(content).digest(), content))


def _decode(content: bytes) -> Tensors | None:
    """Return the tensors in a file's content; None if it is damaged."""
    import torch

    start = len(_FORMAT) + _DIGEST_BYTES
    payload = memoryview(content)[start:]
    if content[:start] != _FORMAT + hashlib.sha256(payload).digest():
        return None
    try:
        tensors: Tensors = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception:  # files of other torch versions raise errors of many kinds, none of them documented
        return None
    return tensors
