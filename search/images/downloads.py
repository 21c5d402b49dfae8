"""Downloads of data sets that are not on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError, URLError

from search.errors import DatasetMissingError
from search.images.releases import Release, absence, read_checked
from search.locations import DATA_DIR_VARIABLE

_FAILURES = (OSError, RuntimeError, HTTPException)


def unexpected_folders(releases: Iterable[Release], data_dir: Path) -> list[Path]:
    """Return the folders of releases that are not downloaded. If there are any, a download would be unexpected."""
    folders = (data_dir / release.folder for release in releases if not release.mirrors)
    return [folder for folder in folders if folder.is_dir()]


def download(name: str, releases: Iterable[Release], data_dir: Path) -> Release:
    """Download what is missing of a data set.

    A file appears under its name once it is complete and has the published content, so downloads may be killed, and
    several processes may download the same file. A failed download leaves no folder behind.

    Args:
        name: Name of the data set.
        releases: Its releases, none of which is complete in the folder.
        data_dir: The folder.

    Returns:
        The release that is complete now.

    Raises:
        DatasetMissingError: If a file cannot be downloaded or written, or part of a release that is not downloaded is
            there.
    """
    releases = tuple(releases)
    lacking = absence(name, releases, data_dir)
    if folders := unexpected_folders(releases, data_dir):
        raise DatasetMissingError(
            f"{lacking}. Add what is missing, or delete {' and '.join(map(str, folders))} "
            "and run the same command again to download it all"
        )
    release = next(release for release in releases if release.mirrors)
    folder = data_dir / release.folder
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path, hashes in release.downloads(data_dir).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _download_file(path, hashes, release.mirrors)
    except _FAILURES as error:
        raise DatasetMissingError(
            f"dataset {name!r} is not on this machine and could not be downloaded ({_reason(error)}): {lacking}. "
            f"Put the files there, name another folder with `data_dir` or ${DATA_DIR_VARIABLE}, or connect to the "
            "network and run the same command again"
        ) from error
    finally:
        for path in created:
            with suppress(OSError):  # it is not empty, or was not created
                path.rmdir()
    return release


def _download_file(path: Path, hashes: Mapping[str, str], mirrors: Iterable[str]) -> None:
    """Download a file from the first mirror that has its published content."""
    from approx.custom_modules import import_custom_module

    download_url = import_custom_module("torchvision.datasets.utils").download_url
    reasons = []
    with TemporaryDirectory(prefix=f"{path.name}.partial-", dir=path.parent) as partial:
        for number, mirror in enumerate(mirrors):
            folder = Path(partial) / str(number)
            try:
                download_url(f"{mirror}{path.name}", folder, path.name)
                _, flaws = read_checked(folder / path.name, hashes)
                if not flaws:
                    (folder / path.name).replace(path)
                    return
                reasons += [f"{mirror}{path.name} {flaw.text}" for flaw in flaws.values()]
            except _FAILURES as error:
                reasons.append(_reason(error))
    raise RuntimeError("; ".join(dict.fromkeys(reasons)))


def _reason(error: Exception) -> str:
    """Return what an error says, in one line."""
    said = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return (str(said).strip() or type(error).__name__).splitlines()[-1]
