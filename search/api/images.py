"""Where the images of a search are: as given now, or where they were when it began."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from search.api.workplace import Workplace
from search.errors import DatasetMissingError
from search.locations import DATA_DIR_VARIABLE
from search.space.task import Task
from search.store.database import Store
from search.store.records import SearchRecord


def given_images_dir(workplace: Workplace) -> Path | None:
    """Return the folder of datasets that was given, as a parameter or in $CROSSLAYER_DATA_DIR; None if none was."""
    given = workplace.data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return Path(given).absolute() if given else None


def resumed_images_dir(task: Task, workplace: Workplace, search: SearchRecord) -> Path:
    """Return the folder of datasets for resuming a search: as given, else the one with which it was begun.

    Raises:
        DatasetMissingError: If that folder is gone, or lacks the images.
    """
    given = given_images_dir(workplace)
    if given is not None or search.data_dir is None:
        return given or workplace.images_dir
    from search.evaluation.datasets import check_data_dir

    try:
        check_data_dir(task, search.data_dir)
    except DatasetMissingError as error:
        raise DatasetMissingError(
            f"the images of search {search.name!r} are gone from {search.data_dir}; put them back, or give the folder "
            f"that holds them now as `data_dir` ({error})"
        ) from None
    return search.data_dir


def stored_images_dir(task: Task, workplace: Workplace, store: Store) -> Path:
    """Return the folder of datasets for what is stored of a task: as given, else one with which it was searched.

    Of several such folders it is the newest search's that still holds the images; the default folder if none does.
    """
    from search.evaluation.datasets import check_data_dir

    given = given_images_dir(workplace)
    if given is not None:
        return given
    for search in store.searches.all():
        if search.task == task.identity and search.data_dir is not None:
            with suppress(DatasetMissingError):
                check_data_dir(task, search.data_dir)
                return search.data_dir
    return workplace.images_dir
