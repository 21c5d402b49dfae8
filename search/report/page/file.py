"""Write the result of a search as a web page in one file."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from search.answers.result import result_of
from search.errors import UsageError
from search.locations import storage_url
from search.report.page.page import render
from search.store.database import Store


def write_report(
    name: str, path: str | os.PathLike[str], *, storage: str | None = None, overwrite: bool = False
) -> Path:
    """Write the result of a stored search as one HTML file that needs no network; return its path.

    Args:
        name: Name of the search.
        path: The file to write.
        storage: Results database; see `search.locations.storage_url`.
        overwrite: Whether to replace an existing file.

    Raises:
        UsageError: If no search has this name, or the file exists or cannot be written.
        StorageError: If the database does not exist or cannot be used.
        SearchError: If the search has not evaluated its baseline yet.
    """
    if not isinstance(name, str):
        raise UsageError(f"`name` must be the name of a search, got {name!r}")
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"`path` must be the path of a file, got {path!r}")
    file = Path(path)
    with Store.open(storage_url(storage), create=False) as store:
        search = store.searches.find(name)
        if file.exists() and not overwrite:
            raise UsageError(f"{file} exists; choose another file, or replace it with `overwrite`")
        result = result_of(store, search)
        trials = store.searches.trial_ends(search)
    written_by = {name: version(name) for name in ("crosslayer", "torch", "optuna")}
    text = render(result, trials, written_by={**written_by, "Python": platform.python_version()})
    try:
        with file.open("w" if overwrite else "x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}; choose another file") from None
    return file
