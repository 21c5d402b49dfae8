import pytest

from search.errors import SearchBusyError
from search.store.claims import claimed
from search.store.database import Store
from tests.support.fakes import new_search


def test_one_process_runs_a_search(store: Store) -> None:
    search = new_search(store, name="mine")
    refused = pytest.raises(SearchBusyError, match="'mine' is being run by another process")
    with claimed(search, store.url), refused, claimed(search, store.url):
        pass
    with claimed(search, store.url):
        pass
