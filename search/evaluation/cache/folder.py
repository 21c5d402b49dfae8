"""Stages cached in a local or mounted folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from search.evaluation.cache.place import LEFTOVER_S, PARTIAL, STAGE, CachedStage

_LOCK = ".lock"


class CacheFolder:
    """A `search.evaluation.cache.place.CachePlace` in a folder.

    A stage is the file `ab/abc....pt`. It is written under another name and renamed, so it appears whole or not at all.
    It is not synced to disk; its digest reveals damage after a power loss. Its modification time is the time of its
    last use.

    The worker that computes a stage holds a lock on a file beside it, which the system releases however that process
    ends. Only the holder removes the file, while it holds the lock: if a file was removed meanwhile, `filelock` starts
    over instead of locking it, so two processes never hold the lock of one stage. (Were it removed after the release,
    another process could have locked it by then, and a third would create and lock a new one.)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> bytes | None:
        """See `CachePlace`."""
        try:
            return self._path(key, STAGE).read_bytes()
        except FileNotFoundError:
            return None

    def holds(self, key: str) -> bool:
        """See `CachePlace`."""
        return self._path(key, STAGE).exists()

    def write(self, key: str, content: bytes) -> None:
        """See `CachePlace`."""
        path = self._path(key, STAGE)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path(key, f".{uuid4().hex}{PARTIAL}")  # one per writer: two may write if claiming failed
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise

    def remove(self, key: str) -> None:
        """See `CachePlace`."""
        self._path(key, STAGE).unlink(missing_ok=True)

    def mark_used(self, key: str) -> None:
        """See `CachePlace`."""
        with suppress(OSError):  # evicted meanwhile, or another user's file
            os.utime(self._path(key, STAGE))

    def survey(self) -> list[CachedStage]:
        """See `CachePlace`."""
        cached = []
        leftover_before = time.time() - LEFTOVER_S
        for shard in self._shards():
            for entry in os.scandir(shard):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                key, _, ending = entry.name.partition(".")
                if f".{ending}" == STAGE:
                    cached.append(CachedStage(key=key, size_bytes=status.st_size, used_s=status.st_mtime))
                elif status.st_mtime < leftover_before:
                    _remove_leftover(entry.path)
        return cached

    @contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """See `CachePlace`."""
        path = self._path(key, _LOCK)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()

    def _path(self, key: str, ending: str) -> Path:
        return self._folder / key[:2] / f"{key}{ending}"

    def _shards(self) -> list[str]:
        try:
            return [entry.path for entry in os.scandir(self._folder) if entry.is_dir()]
        except FileNotFoundError:
            return []


def _remove_leftover(path: str) -> None:
    """Remove an old file that is not a stage, unless it is a held lock."""
    with suppress(OSError, Timeout):
        if path.endswith(PARTIAL):
            os.unlink(path)
        elif path.endswith(_LOCK):
            with FileLock(path, blocking=False):
                os.unlink(path)
