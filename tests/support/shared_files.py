"""A place for stages behind a URL that several processes reach, as they reach a server; and leases that end soon."""

import os
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from search.evaluation.cache import objects as stage_objects


class Shared(AbstractFileSystem):  # type: ignore[misc]
    """Files behind `shared://`."""

    protocol = "shared"
    cachable = False

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        return LocalFileSystem().ls(path, detail)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return open(path, mode)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        os.makedirs(path, exist_ok=exist_ok)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        os.replace(path1, path2)

    def _rm(self, path: str) -> None:
        os.unlink(path)


fsspec.register_implementation("shared", Shared, clobber=True)


def shorten_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let leases on objects be refreshed, time out and be polled for within fractions of a second."""
    for name, seconds in (("_HEARTBEAT_S", 0.05), ("_STALE_S", 0.4), ("_POLL_S", 0.02)):
        monkeypatch.setattr(stage_objects, name, seconds)
