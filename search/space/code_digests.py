"""Digests of the code behind a network, which tell apart versions whose names and layers are the same."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType
from typing import Any

from search.content_hash import content_hash
from search.errors import UsageError

_NOT_HASHED = {"torch", "builtins"}  # packages whose code is the same wherever it runs
_files: dict[Path, str] = {}  # file -> SHA-256 of its content when this process first used it


def source_digests(modules: Iterable[str]) -> dict[str, str | None]:
    """Return the SHA-256 of the file of each module that is not torch's: None for one that has none.

    Raises:
        UsageError: If a file has changed since this process first used it, so that what was imported is another one.
    """
    return {name: _file_digest(name) for name in sorted(set(modules)) if _is_hashed(name)}


def class_digests(classes: Iterable[type]) -> dict[str, str | None]:
    """Return a digest of the code of classes and their bases, torch's left out: by file, or by class without one.

    A class of a notebook or a script has no file that holds just it; its digest is that of its methods' bytecode and of
    its plain attributes.

    Raises:
        UsageError: As for `source_digests`.
    """
    used = {base for one in classes for base in one.__mro__ if _is_hashed(base.__module__)}
    digests = source_digests(one.__module__ for one in used if one.__module__ != "__main__")
    without_file = {one for one in used if digests.get(one.__module__) is None}
    return digests | {f"{one.__module__}.{one.__qualname__}": _class_digest(one) for one in without_file}


def _is_hashed(module: str) -> bool:
    return module.partition(".")[0] not in _NOT_HASHED


def _file_digest(module: str) -> str | None:
    name = getattr(sys.modules.get(module), "__file__", None)
    if name is None or not Path(name).is_file():
        return None
    file = Path(name).resolve()
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if _files.setdefault(file, found) != found:
        raise UsageError(f"{file} was edited after this process imported it; start a new one")
    return found


def _class_digest(one: type) -> str:
    content: dict[str, Any] = {}
    for name, value in vars(one).items():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)  # of a property, of a method
        if isinstance(code := getattr(function, "__code__", None), CodeType):
            content[name] = _code_content(code)
        elif not name.startswith("__") and isinstance(value, bool | int | float | str):
            content[name] = repr(value)
    return content_hash(content)


def _code_content(code: CodeType) -> list[Any]:
    return [
        code.co_code.hex(),
        list(code.co_names),
        list(code.co_varnames),
        [_code_content(one) if isinstance(one, CodeType) else _constant(one) for one in code.co_consts],
    ]


def _constant(value: object) -> str:
    # The order of a set of text differs between processes.
    return str(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
