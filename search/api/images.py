"""Where the images of a search are: as given now, or where they were when it began."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from search.api.workplace import Workplace
from search.errors import DatasetMissingError, StorageError
from search.images.dataset import Dataset
from search.images.places import ImagePlaces
from search.locations import DATA_DIR_VARIABLE
from search.space.task import Task
from search.store.database import Store
from search.store.records import SearchRecord


def given_data_dir(workplace: Workplace) -> Path | None:
    """Return the folder of built-in data sets that was given, as a parameter or in $CROSSLAYER_DATA_DIR."""
    given = workplace.data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return Path(given).absolute() if given else None


def resumed_images(workplace: Workplace, search: SearchRecord) -> ImagePlaces:
    """Return where images are for resuming a search: as given, else the folder with which it was begun.

    Raises:
        DatasetMissingError: If that folder is gone, or lacks the images.
    """
    places = workplace.images
    if given_data_dir(workplace) is not None or search.data_dir is None:
        return places
    from search.evaluation.datasets import check_present

    before = replace(places, data_dir=search.data_dir)
    try:
        check_present(search.task, before)
    except DatasetMissingError as error:
        raise DatasetMissingError(
            f"the images of search {search.name!r} are gone from {search.data_dir}; put them back, or give the folder "
            f"that holds them now as `data_dir` ({error})"
        ) from None
    return before


def stored_images(task: Task, workplace: Workplace, store: Store) -> ImagePlaces:
    """Return where images are for what is stored of a task: as given, else a folder with which it was searched.

    Of several such folders it is the newest search's that still holds the images; the default folder if none does.
    """
    from search.evaluation.datasets import check_present

    places = workplace.images
    if given_data_dir(workplace) is not None:
        return places
    for search in store.searches.all():
        if search.task.identity == task.identity and search.data_dir is not None:
            before = replace(places, data_dir=search.data_dir)
            with suppress(DatasetMissingError):
                check_present(task, before)
                return before
    return places


def searches_of(dataset: Dataset, workplace: Workplace) -> list[str]:
    """Return the names of the stored searches with a data set; none where no results are stored."""
    with suppress(StorageError), Store.open(workplace.url, create=False) as store:
        return [search.name for search in store.searches.all() if search.task.dataset.identity == dataset.identity]
    return []
