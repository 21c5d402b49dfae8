"""A search that several tests of reports show."""

import pytest

from search.answers.result import SearchResult, result_of
from search.space.target import Target
from search.store.database import Store
from tests.support.fakes import new_search
from tests.support.stored import CONFIRMED, DROP, REJECTED, RIGHT_SIZED, SETUP, SPACE, store_rejected


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A search of four evaluations, whose answer is on the front beside one that fresh runs rejected."""
    database = tmp_path_factory.mktemp("result") / "results.db"
    store_rejected(database)
    with Store.open(f"sqlite:///{database}", create=False) as store:
        search = new_search(store, setup=SETUP, target=Target(max_accuracy_drop=DROP))
        for number, one in enumerate((SPACE.baseline(), CONFIRMED, REJECTED, RIGHT_SIZED)):
            store.searches.record_trial(search, number, evaluation_key=one.key)
        return result_of(store, search)
