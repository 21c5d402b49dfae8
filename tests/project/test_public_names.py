import importlib

import pytest


@pytest.mark.parametrize("package", ["approx", "energy", "search", "service"])
def test_public_names_are_sorted_and_exist(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__

    def as_ruff_sorts(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert names == sorted(names, key=as_ruff_sorts)
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None


def test_a_name_that_search_does_not_have() -> None:
    import search

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = search.nothing
