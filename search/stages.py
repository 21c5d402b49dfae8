"""Kept results of the stages of an evaluation: files of tensors under a content hash of what they depend on.

A file appears whole or not at all, so a kill at any moment leaves nothing half-written; of several workers that want
the same stage, one computes and the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

Tensors = dict[str, Tensor]


class StageStore:
    """A folder of stage results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_or_compute(self, key: str, compute: Callable[[], Tensors]) -> Tensors:
        """The result kept under `key`, computed and kept first if there is none.

        Args:
            key: Content hash of everything that the result depends on.
            compute: Called at most once, by one process at a time.
        """
        path = self._folder / key[:2] / f"{key}.pt"
        kept = _load(path)
        if kept is not None:
            return kept
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            kept = _load(path)
            if kept is not None:
                return kept
            result = compute()
            partial = path.with_suffix(".partial")
            torch.save(result, partial)
            os.replace(partial, path)
        path.with_suffix(".lock").unlink(missing_ok=True)
        return result


def _load(path: Path) -> Tensors | None:
    """The tensors in a file; None if it is missing or damaged, which a stage that is computed again repairs."""
    try:
        tensors: Tensors = torch.load(path, weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # a damaged file raises errors of many kinds, none of them documented
        return None
    return tensors
