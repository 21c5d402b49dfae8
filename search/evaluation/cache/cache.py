"""Kept results of the stages of an evaluation: tensors under a content hash of what they depend on.

They are shared by all workers and searches that name the same place. It is a cache: whatever goes wrong with it, from a
full disk to a flipped bit, costs time and never a result.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from search.errors import UsageError
from search.evaluation.cache.folder import CacheFolder
from search.evaluation.cache.objects import CacheObjects
from search.evaluation.cache.place import CachePlace
from search.locations import printable

if TYPE_CHECKING:
    from torch import Tensor

Tensors: TypeAlias = "dict[str, Tensor]"

_logger = logging.getLogger(__name__)

# A file is this, the SHA-256 of what follows, and what torch.save wrote: its archive checks names, not tensors.
_FORMAT = b"crosslayer stage 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size

_EVICTED_TO = 0.9
_SURVEYED_EVERY = 0.01


class TrainingCache:
    """Keeps the results of stages in a folder or behind an fsspec URL. May be sent to other processes.

    When what is kept exceeds the limit, the least recently used stages go until 90 % of it are left. To find out, a
    worker lists the place at its first stage and then whenever it has written 1 % of the limit: so that much, for every
    worker at work, may be kept in excess.

    Args:
        location: A folder, or a URL whose protocol fsspec knows, such as `s3://bucket/stages`. What is kept under
            `memory://` is known to one process only.
        limit_bytes: Of all that is kept; None sets none.

    Raises:
        UsageError: If the URL's protocol is unknown, its driver is not installed, or it cannot be opened.
    """

    def __init__(self, location: str | Path, *, limit_bytes: int | None = None) -> None:
        self._location = printable(location)
        self._place = _open_place(location)
        self._limit = math.inf if limit_bytes is None else limit_bytes
        self._until_survey: float = 0
        self._noted: set[str] = set()

    def get_or_compute(self, key: str, compute: Callable[[], Tensors]) -> Tensors:
        """The result kept under `key`, computed and kept first if there is none that is whole.

        Of several workers that want the same stage, one computes and the others wait; if it dies, another takes over.
        A result that cannot be kept is returned all the same, and a warning is logged once.

        Args:
            key: Content hash, in hex, of everything that the result depends on.
            compute: Called at most once. What it raises is raised.

        Returns:
            What `compute` returned, here or elsewhere; on the CPU, if it was kept.
        """
        kept = self._kept(key)
        if kept is not None:
            return kept
        with ExitStack() as claim:
            try:
                claim.enter_context(self._place.claimed(key))
            except OSError as error:
                self._note_unkept(error)
            kept = self._kept(key, repair=True)
            if kept is not None:
                return kept
            result = compute()
            self._keep(key, result)
        return result

    def why_unwritable(self) -> str | None:
        """Try to write there: None, or a sentence that says why nothing can be kept, which is then not logged again."""
        key = uuid4().hex
        try:
            self._place.write(key, b"")
            self._place.remove(key)
        except OSError as error:
            self._noted.add("unkept")
            return self._unkept(error)
        return None

    def _kept(self, key: str, *, repair: bool = False) -> Tensors | None:
        """What is kept, if it is whole. What is not goes with `repair`: whoever holds the claim may be writing it."""
        try:
            content = self._place.read(key)
            if content is None:
                return None
            tensors = _decode(content)
            if tensors is not None:
                self._place.mark_used(key)
            elif repair:
                self._note("damaged", f"a trained network in {self._location} is damaged ({key}) and is trained again")
                self._place.remove(key)
        except OSError as error:
            self._note_unkept(error)
            return None
        return tensors

    def _keep(self, key: str, result: Tensors) -> None:
        content = _encode(result)
        if len(content) > _EVICTED_TO * self._limit:
            self._note("large", f"a trained network of {len(content)} bytes is not kept: the limit is {self._limit}")
            return
        try:
            self._place.write(key, content)
            self._until_survey -= len(content)
            if self._until_survey < 0:
                self._evict(but=key)
        except OSError as error:
            self._note_unkept(error)

    def _evict(self, *, but: str) -> None:
        """Survey the place, and bring it within its limit; `but` was just written."""
        kept = self._place.survey()
        total = sum(stage.size_bytes for stage in kept)
        if total > self._limit:
            for stage in sorted(kept, key=lambda stage: stage.used_s):
                if total <= _EVICTED_TO * self._limit:
                    break
                if stage.key != but:
                    self._place.remove(stage.key)
                    total -= stage.size_bytes
        self._until_survey = min(self._limit - total, _SURVEYED_EVERY * self._limit)

    def _unkept(self, error: OSError) -> str:
        return f"trained networks cannot be kept in {self._location} ({error}); the search goes on without"

    def _note_unkept(self, error: OSError) -> None:
        self._note("unkept", self._unkept(error))

    def _note(self, kind: str, text: str) -> None:
        """Log a warning, once for every kind: it would be the same for each of thousands of stages."""
        if kind not in self._noted:
            self._noted.add(kind)
            _logger.warning("%s", text)


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
        raise UsageError(f"`cache` {printable(text)}: {error} ({protocol}:// needs a package of its own)") from None
    except Exception as error:  # drivers raise errors of many kinds
        if protocol not in fsspec.available_protocols():
            raise UsageError(
                f"`cache` {printable(text)}: the protocol {protocol}:// is not known; give a folder or a URL that "
                "fsspec knows, such as s3://BUCKET/FOLDER"
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
    """The tensors of a file's content; None if a bit of it is not as it was written."""
    import torch

    start = len(_FORMAT) + _DIGEST_BYTES
    payload = memoryview(content)[start:]
    if content[:start] != _FORMAT + hashlib.sha256(payload).digest():
        return None
    try:
        tensors: Tensors = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception:  # another version's writing raises errors of many kinds, none of them documented
        return None
    return tensors
