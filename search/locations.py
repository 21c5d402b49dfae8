"""Where datasets, results and trained networks are, by argument, environment variable or default."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from search.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DATA_DIR_VARIABLE = "CROSSLAYER_DATA_DIR"
STORAGE_VARIABLE = "CROSSLAYER_STORAGE"
CACHE_VARIABLE = "CROSSLAYER_CACHE"
CACHE_LIMIT_VARIABLE = "CROSSLAYER_CACHE_LIMIT"
MULTIPLIER_VARIABLE = "CROSSLAYER_MULTIPLIER_DIR"
IMAGE_VARIABLE = "CROSSLAYER_IMAGE_DIR"

DEFAULT_CACHE_LIMIT = "10GB"

_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def data_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of built-in data sets: as given, else $CROSSLAYER_DATA_DIR, else the user's cache folder."""
    chosen = given or os.environ.get(DATA_DIR_VARIABLE)
    return Path(chosen) if chosen else user_cache_dir() / "datasets"


def user_cache_dir() -> Path:
    """Return the user's cache folder for this project."""
    return Path(platformdirs.user_cache_dir("crosslayer"))


def storage_url(given: str | None = None) -> str:
    """Return the results database as an SQLAlchemy URL.

    Args:
        given: A URL, or the path of an SQLite file; else $CROSSLAYER_STORAGE; else a file in the user's data folder.

    Raises:
        UsageError: If it looks like a URL but is not one.
    """
    chosen = given or os.environ.get(STORAGE_VARIABLE)
    if not chosen:
        return f"sqlite:///{Path(platformdirs.user_data_dir('crosslayer')) / 'crosslayer.db'}"
    if "://" not in chosen:
        return f"sqlite:///{chosen}"
    from sqlalchemy.exc import ArgumentError

    try:
        _parsed(chosen)
    except ArgumentError:
        raise UsageError(
            f"`storage` {chosen!r} is not a database URL; give sqlite:///FILE, "
            "postgresql://USER@HOST/NAME, or the path of an SQLite file"
        ) from None
    return chosen


def without_password(url: str) -> str:
    """Return a database URL without its password, for printing."""
    return _parsed(url).render_as_string(hide_password=True)


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite URL, or None for other databases."""
    parsed = _parsed(url)
    if not parsed.drivername.startswith("sqlite") or not parsed.database:
        return None
    return Path(parsed.database)


def _parsed(url: str) -> URL:
    # SQLAlchemy is imported only for the locations of databases: folders are looked up by programs that need none.
    from sqlalchemy.engine import make_url

    return make_url(url)


def cache_folder(url: str) -> Path:
    """Return the folder of a database's locks and, by default, of its trained networks.

    It is beside an SQLite file, else in the user's cache folder.
    """
    path = sqlite_path(url)
    return path.with_suffix(".cache") if path else user_cache_dir() / "networks"


def cache_location(given: str | os.PathLike[str] | None, url: str) -> str:
    """Return the folder or URL of trained networks: as given, else $CROSSLAYER_CACHE, else `cache_folder(url)`."""
    return os.fspath(given or os.environ.get(CACHE_VARIABLE) or cache_folder(url))


def cache_limit_bytes(given: str | int | None = None) -> int:
    """Return how many bytes of trained networks are kept: as given, else $CROSSLAYER_CACHE_LIMIT, else 10 GB.

    Args:
        given: A size; see `size_bytes`.

    Raises:
        UsageError: If it is not a size, or below one byte.
    """
    chosen = given if given is not None else os.environ.get(CACHE_LIMIT_VARIABLE) or DEFAULT_CACHE_LIMIT
    return size_bytes(chosen, "cache_limit")


def size_bytes(given: str | int, parameter: str) -> int:
    """Return a size in bytes.

    Args:
        given: Bytes, or a number with a unit: kB, MB, GB or TB of 1000, or KiB, MiB, GiB or TiB of 1024, in any case.
        parameter: The parameter that it was given as, for messages.

    Raises:
        UsageError: If it is not a size, or below one byte.

    Example:
        >>> size_bytes("1.5 GB", "cache_limit"), size_bytes("2MiB", "cache_limit")
        (1500000000, 2097152)
    """
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b?)\s*", str(given).lower(), re.ASCII)
    limit = int(float(parts[1]) * (1024 if parts[3] else 1000) ** _PREFIXES[parts[2]]) if parts else 0
    if limit < 1:
        raise UsageError(f"`{parameter}` {str(given)!r} is not a size; give one such as 500MB or 10GB")
    return limit


def printable(location: str | os.PathLike[str]) -> str:
    """Return a folder or URL of trained networks without its password, for printing."""
    return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", os.fspath(location))


def multiplier_dir() -> Path:
    """Return the folder of imported multipliers: $CROSSLAYER_MULTIPLIER_DIR, else in the user's data folder."""
    chosen = os.environ.get(MULTIPLIER_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("crosslayer")) / "multipliers"


def image_dir() -> Path:
    """Return the folder of stored images: $CROSSLAYER_IMAGE_DIR, else in the user's data folder."""
    chosen = os.environ.get(IMAGE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("crosslayer")) / "images"
