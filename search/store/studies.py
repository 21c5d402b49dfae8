"""Optuna's studies, whose tables are in the results database too, where its dashboard finds them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.study import Study, StudyDirection

from search.errors import StorageError
from search.locations import without_password
from search.store.records import SearchRecord
from search.store.schema import engine_options, outlive_restarts, storage_error, storage_errors, tune_sqlite


def open_study(url: str, search: SearchRecord, storage: optuna.storages.RDBStorage | None = None) -> Study:
    """The Optuna study of a search, made if need be, in the database at `url`, which may be open in Optuna already."""
    costs = search.settings.costs
    study = optuna.create_study(
        study_name=search.name,
        storage=storage or open_optuna(url),
        directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * len(costs)],
        load_if_exists=True,
    )
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(["accuracy", *costs])
    return study


def study_names(url: str) -> set[str]:
    """Names of the Optuna studies in a database, whoever made them.

    Raises:
        StorageError: If Optuna cannot use its tables there.
    """
    with optuna_storage(url) as storage:
        return set(optuna.get_all_study_names(storage))


@contextmanager
def optuna_storage(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's way to the database, whose connections end with it and whose errors are ours."""
    with storage_errors(url):
        storage = open_optuna(url)
        try:
            yield storage
        except StorageInternalError as error:  # tells less than what caused it
            raise storage_error(url, error) from error
        finally:
            storage.remove_session()
            storage.engine.dispose()


def open_optuna(url: str) -> optuna.storages.RDBStorage:
    """Optuna's way to the database, whose connections outlive a restart of its server.

    Raises:
        StorageError: If Optuna cannot use its tables there.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with storage_errors(url):
            storage = optuna.storages.RDBStorage(url, engine_kwargs=engine_options(url))
    except (RuntimeError, StorageInternalError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"Optuna cannot use its tables in {without_password(url)}: {reason}") from error
    if url.startswith("sqlite"):
        tune_sqlite(storage.engine)
    outlive_restarts(storage.engine)
    return storage
