import importlib
import inspect
import pkgutil
import pydoc
import re

import pytest

import approx


@pytest.mark.parametrize("package", ["energy", "search", "service"])
def test_public_names_are_sorted_and_exist(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__

    def as_ruff_sorts(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert names == sorted(names, key=as_ruff_sorts)
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None


def test_the_overview_of_approx_names_everything_public_and_is_short() -> None:
    overview = pydoc.render_doc(approx, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    assert len(overview.splitlines()) < 135
    names = dir(approx)
    assert not [name for name in names if not re.search(rf"\b{name}\b", approx.__doc__ or "")]
    assert not [name for name in names if name.startswith("_") or inspect.ismodule(getattr(approx, name))]
    assert not {module.name for module in pkgutil.iter_modules(approx.__path__)} & set(names)  # which they would hide
    assert {"approximate", "fit", "HYBRID_22NM"} <= set(names)
    assert not {"chips", "arithmetic", "csrc", "torch"} & set(names)


def test_search_shows_its_public_names_and_describes_its_functions() -> None:
    import search

    assert {"SearchOptions", "SearchResult", "Workplace", "best", "run"} <= set(dir(search))
    assert [name for name in dir(search) if name.startswith("_") or inspect.ismodule(getattr(search, name))] == []
    assert [name for name in dir(search) if inspect.isfunction(getattr(search, name))] == search.__all__
    overview = pydoc.render_doc(search, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    assert len(overview.splitlines()) < 255
    assert not [name for name in search.__all__ if f"{name}(" not in overview]


def test_a_name_that_search_does_not_have() -> None:
    import search

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = search.nothing
