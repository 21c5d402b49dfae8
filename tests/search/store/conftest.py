from collections.abc import Iterator
from pathlib import Path

import pytest

from search.store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty one."""
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as opened:
        yield opened
