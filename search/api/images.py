"""Where the images of a search are: as given now, or where they were when it began."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from search.api.workplace import Workplace
from search.errors import DatasetMissingError
from search.locations import DATA_DIR_VARIABLE
from search.space.task import Task
from search.store.records import SearchRecord


def given_images_dir(workplace: Workplace) -> Path | None:
    """Return the folder of datasets that was given, as a parameter or in $CROSSLAYER_DATA_DIR; None if none was."""
    given = workplace.data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return Path(given).absolute() if given else None


def images_dir(task: Task, workplace: Workplace, searches: Iterable[SearchRecord]) -> Path:
    """Return the folder of datasets.

    Args:
        task: The task whose images it must hold.
        workplace: Its `data_dir` comes first.
        searches: Searches of the task; the folder with which the first of them was begun that had one comes next.

    Raises:
        DatasetMissingError: If that folder is gone, or lacks the images.
    """
    if workplace.data_dir is None:
        from search.evaluation.datasets import check_data_dir

        for search in searches:
            if search.data_dir is not None:
                try:
                    check_data_dir(task, search.data_dir)
                except DatasetMissingError as error:
                    raise DatasetMissingError(
                        f"the images of search {search.name!r} are gone from {search.data_dir}; put them back, or give "
                        f"the folder that holds them now as `data_dir` ({error})"
                    ) from None
                return search.data_dir
    return workplace.images_dir
