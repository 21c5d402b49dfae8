"""Stages cached as objects behind any fsspec URL, such as a bucket."""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from typing import Any
from uuid import uuid4

from fsspec import AbstractFileSystem

from search.evaluation.cache.place import LEFTOVER_S, PARTIAL, STAGE, CachedStage

_LEASE, _USED = ".lease", ".used"

_HEARTBEAT_S = 10.0
_STALE_S = 60.0  # several heartbeats, so that a slow request of the holder costs it nothing
_POLL_S = 0.5
_MARK_AGAIN_S = 600.0

# Drivers have many names for the time of writing.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "modify", "created")

# The memory:// driver checks for an object and creates it in two steps; only one process sees its objects.
_creating = threading.Lock()


class CacheObjects:
    """A `search.evaluation.cache.place.CachePlace` behind an fsspec URL.

    A stage is the object `ab/abc....pt`. It is written under another name and moved, so it appears whole if the
    driver's move is atomic, as in the usual object stores; elsewhere its digest reveals damage.

    Drivers differ in how to touch an object, so a use is recorded by writing an empty object beside the stage, with the
    ending `.used`, at most every ten minutes per worker and stage. The later of the two times counts.

    The worker that computes a stage holds a lease: an object that only one worker can create, and that its holder
    rewrites every ten seconds. A lease whose content does not change for a minute, by the clock of the worker that
    waits, belongs to a killed worker and is taken over. Two workers may compute the same stage if both take over at
    once, if a holder was suspended for a minute, or if a driver cannot create exclusively; their results are equal, so
    only time is lost.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._made: set[str] = set()
        self._marked: dict[str, float] = {}
        self._leases = True

    def read(self, key: str) -> bytes | None:
        """See `CachePlace`."""
        return self._content(self._path(key, STAGE))

    def holds(self, key: str) -> bool:
        """See `CachePlace`."""
        return self._exists(self._path(key, STAGE))

    def write(self, key: str, content: bytes) -> None:
        """See `CachePlace`."""
        partial = self._path(key, f".{uuid4().hex}{PARTIAL}")
        with _errors_of_drivers():
            self._make_parent(partial)
            try:
                self._filesystem.pipe_file(partial, content)
                self._filesystem.mv(partial, self._path(key, STAGE))
            except BaseException:
                with suppress(Exception):
                    self._filesystem.rm_file(partial)
                raise
        self._marked[key] = time.monotonic()  # writing counts as a use

    def remove(self, key: str) -> None:
        """See `CachePlace`."""
        self._remove(self._path(key, STAGE))
        self._remove(self._path(key, _USED))

    def mark_used(self, key: str) -> None:
        """See `CachePlace`."""
        now = time.monotonic()
        if now - self._marked.get(key, -_MARK_AGAIN_S) < _MARK_AGAIN_S:
            return
        self._marked[key] = now
        with suppress(OSError), _errors_of_drivers():
            self._filesystem.pipe_file(self._path(key, _USED), b"")

    def survey(self) -> list[CachedStage]:
        """See `CachePlace`."""
        with _errors_of_drivers():
            self._filesystem.invalidate_cache()
            found = self._filesystem.find(self._root, detail=True)
        leftover_before = time.time() - LEFTOVER_S
        sizes: dict[str, int] = {}
        used: dict[str, float] = {}
        for path, facts in found.items():
            key, _, ending = posixpath.basename(path).partition(".")
            written = _written_s(facts)
            if f".{ending}" in (STAGE, _USED):
                used[key] = max(used.get(key, 0.0), written or 0.0)
            if f".{ending}" == STAGE:
                sizes[key] = facts["size"]
            elif path.endswith((PARTIAL, _LEASE)) and written is not None and written < leftover_before:
                self._remove(path)  # a held lease is never that old
        for key in used.keys() - sizes.keys():
            self._remove(self._path(key, _USED))  # its stage was evicted while it was read
        return [CachedStage(key=key, size_bytes=size, used_s=used[key]) for key, size in sizes.items()]

    @contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """See `CachePlace`."""
        token = uuid4().hex
        if not self._acquire(key, token):
            yield
            return
        done = threading.Event()
        heartbeat = threading.Thread(target=self._refresh, args=(key, token, done), daemon=True)
        heartbeat.start()
        try:
            yield
        finally:
            done.set()
            heartbeat.join()
            with suppress(OSError):
                if self._holds(key, token):
                    self._remove(self._path(key, _LEASE))

    def _acquire(self, key: str, token: str) -> bool:
        """Wait for the lease; return False if leases are not possible or its holder has written the stage."""
        seen: bytes | None = None
        since = 0.0
        while self._leases:
            if self._create_lease(key, token):
                return True
            if not self._leases:
                break
            content, now = self._content(self._path(key, _LEASE)), time.monotonic()
            if content != seen:
                seen, since = content, now
            elif content is not None and now - since > _STALE_S:
                self._remove(self._path(key, _LEASE))
                continue
            if self._exists(self._path(key, STAGE)):
                return False
            time.sleep(_POLL_S)
        return False

    def _create_lease(self, key: str, token: str) -> bool:
        path = self._path(key, _LEASE)
        with _creating, _errors_of_drivers():
            self._make_parent(path)
            try:
                if self._filesystem.async_impl:  # these drivers make one conditional request
                    self._filesystem.pipe_file(path, token.encode(), mode="create")
                else:
                    with self._filesystem.open(path, "xb") as file:
                        file.write(token.encode())
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError, ValueError):
                self._leases = False
                return False
            except Exception:
                if self._content(path) is None:
                    raise
                return False  # drivers differ in how they report that it exists
            return self._holds(key, token)  # a driver that cannot create exclusively may have overwritten another's

    def _refresh(self, key: str, token: str, done: threading.Event) -> None:
        for beat in count(1):
            if done.wait(_HEARTBEAT_S):
                return
            with suppress(OSError), _errors_of_drivers():
                if not self._holds(key, token):
                    return  # taken over, because this process was suspended or disconnected
                self._filesystem.pipe_file(self._path(key, _LEASE), f"{token} {beat}".encode())

    def _holds(self, key: str, token: str) -> bool:
        content = self._content(self._path(key, _LEASE))
        return content is not None and content.startswith(token.encode())

    def _content(self, path: str) -> bytes | None:
        try:
            with _errors_of_drivers():
                return bytes(self._filesystem.cat_file(path))
        except FileNotFoundError:
            return None

    def _exists(self, path: str) -> bool:
        with _errors_of_drivers():
            self._filesystem.invalidate_cache(posixpath.dirname(path))
            return bool(self._filesystem.exists(path))

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError), _errors_of_drivers():
            self._filesystem.rm_file(path)

    def _make_parent(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if parent not in self._made:
            self._filesystem.makedirs(parent, exist_ok=True)
            self._made.add(parent)

    def _path(self, key: str, ending: str) -> str:
        return f"{self._root}/{key[:2]}/{key}{ending}"


@contextmanager
def _errors_of_drivers() -> Iterator[None]:
    """Turn the many exceptions of drivers into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _written_s(facts: Mapping[str, Any]) -> float | None:
    """Return when an object was written, in seconds since 1970, from a driver's listing; None if it has no time."""
    for name in _TIMES:
        time_written = facts.get(name)
        if isinstance(time_written, str):
            with suppress(ValueError):
                time_written = datetime.fromisoformat(time_written)
        if isinstance(time_written, datetime):
            return time_written.timestamp()
        if isinstance(time_written, int | float):
            return float(time_written)
    return None
