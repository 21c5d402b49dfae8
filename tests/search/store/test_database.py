from search.space.task import find_task
from search.store.database import Store
from tests.support.fakes import SETUP, formula, fresh_run, new_search

BASELINE = find_task("digits").space.baseline()


def test_the_revision_changes_with_whatever_answers_depend_on(store: Store) -> None:
    search = new_search(store)
    seen = [store.revision()]
    store.evaluations.record("aa", formula(BASELINE), SETUP, seed=0)
    seen.append(store.revision())
    store.runs.record(fresh_run(BASELINE, 0), SETUP)
    seen.append(store.revision())
    store.searches.finish(search)
    seen.append(store.revision())
    assert len(set(seen)) == 4
    assert store.revision() == seen[-1]
