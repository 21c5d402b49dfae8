"""Where the images of a search are: as given now, or where they were when it began."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from search.api.workplace import Workplace
from search.errors import DatasetMissingError
from search.store.records import SearchRecord


def images_dir(workplace: Workplace, searches: Iterable[SearchRecord]) -> Path:
    """Return the folder of datasets.

    Args:
        workplace: Its `data_dir` comes first.
        searches: The first of these that was begun with a folder of its own comes next.

    Raises:
        DatasetMissingError: If that search's folder is gone.
    """
    if workplace.data_dir is None:
        for search in searches:
            if search.data_dir is not None:
                folder = search.data_dir
                if not folder.is_dir():
                    raise DatasetMissingError(
                        f"search {search.name!r} read its images from {folder}, which is gone; put it back, or "
                        "give the folder that holds them now as `data_dir`"
                    )
                return folder
    return workplace.images_dir
