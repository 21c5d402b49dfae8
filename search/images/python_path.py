"""Import paths, `package.module:function`, by which users name a function that builds a network or gives images."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from search.errors import UsageError

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
LONGEST_PATH = 300  # characters: with the rest of an identity it fits the database's columns


def is_import_path(text: str) -> bool:
    """Return whether a text is an import path; `nets.py:build` is none."""
    return len(text) <= LONGEST_PATH and ".py:" not in text and _PATH.fullmatch(text) is not None


def import_function(path: str, *, folder: str, parameter: str, does: str) -> Callable[..., Any]:
    """Import the function at an import path.

    Args:
        path: An import path.
        folder: Folder in which the module is looked for first.
        parameter: The parameter that messages name.
        does: What the function does, for messages: "builds a network".

    Raises:
        UsageError: If the module cannot be imported, or has no such function.
    """
    from approx.custom_modules import import_custom_module  # loads torch

    module_name, _, name = path.partition(":")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        module = import_custom_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"`{parameter}` {path}: there is no module {error.name!r} in {folder}, nor is one installed; run the "
                "command in the folder that holds it"
            ) from None
        raise UsageError(
            f"`{parameter}` {path}: {module_name!r} cannot be imported from {folder}: {words_of(error)}"
        ) from error
    place = getattr(module, "__file__", None) or module_name
    if not hasattr(module, name):
        known = [name for name, value in vars(module).items() if callable(value)]
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"`{parameter}` {path}: {place} has no {name!r}{hint}")
    function: Callable[..., Any] = getattr(module, name)
    if not callable(function):
        raise UsageError(
            f"`{parameter}` {path}: {name!r} in {place} is of type {type(function).__name__}; name a function that "
            f"{does}"
        )
    return function


def words_of(error: BaseException) -> str:
    """Return what a user's code raised, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
