"""Where datasets, results and kept stages live, unless a person says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from search.errors import UsageError

DATA_DIR_VARIABLE = "CROSSLAYER_DATA_DIR"
STORAGE_VARIABLE = "CROSSLAYER_STORAGE"
MULTIPLIER_VARIABLE = "CROSSLAYER_MULTIPLIER_DIR"


def data_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder of datasets: as given, else $CROSSLAYER_DATA_DIR, else the user's cache folder."""
    chosen = given or os.environ.get(DATA_DIR_VARIABLE)
    return Path(chosen) if chosen else cache_dir() / "datasets"


def cache_dir() -> Path:
    """The user's cache folder for this project."""
    return Path(platformdirs.user_cache_dir("crosslayer"))


def storage_url(given: str | None = None) -> str:
    """The results database as an SQLAlchemy URL.

    Args:
        given: A URL, or the path of an SQLite file; else $CROSSLAYER_STORAGE; else a file in the user's data folder.

    Raises:
        UsageError: If it looks like a URL and is not one.
    """
    chosen = given or os.environ.get(STORAGE_VARIABLE)
    if not chosen:
        return f"sqlite:///{Path(platformdirs.user_data_dir('crosslayer')) / 'crosslayer.db'}"
    if "://" not in chosen:
        return f"sqlite:///{chosen}"
    try:
        make_url(chosen)
    except ArgumentError:
        raise UsageError(
            f"--storage {chosen!r} is not a database URL; give sqlite:///FILE, "
            "postgresql://USER@HOST/NAME, or the path of an SQLite file"
        ) from None
    return chosen


def without_password(url: str) -> str:
    """A database URL that may be printed."""
    return make_url(url).render_as_string(hide_password=True)


def sqlite_path(url: str) -> Path | None:
    """The file behind an SQLite URL; None for another database."""
    parsed = make_url(url)
    if not parsed.drivername.startswith("sqlite") or not parsed.database:
        return None
    return Path(parsed.database)


def stage_dir(url: str) -> Path:
    """The folder of kept stages: beside an SQLite file, else in the user's cache folder."""
    path = sqlite_path(url)
    return path.with_suffix(".stages") if path else cache_dir() / "stages"


def multiplier_dir() -> Path:
    """The folder of imported multipliers: $CROSSLAYER_MULTIPLIER_DIR, else in the user's data folder."""
    chosen = os.environ.get(MULTIPLIER_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("crosslayer")) / "multipliers"


def multiplier_cost_file() -> Path:
    """The table of what the user's own multipliers cost, beside the imported ones."""
    return multiplier_dir() / "costs.csv"
