"""Import paths. What is said of modules that cannot be imported is tested with the networks and images they give."""

import sys
from pathlib import Path

import pytest

from search.errors import UsageError
from search.images.python_path import import_function, is_import_path, words_of


@pytest.mark.parametrize("text", ["nets:build", "a.b_c.d2:Net", "ネット:作る", "_a:_b"])
def test_import_paths(text: str) -> None:
    assert is_import_path(text)


@pytest.mark.parametrize(
    "text",
    ["", "nets", "nets.py:build", "a/b:c", "a.:b", ".a:b", "a:b:c", "a:b.c", "2a:b", "C:\\images", "a" * 300 + ":b"],
)
def test_other_texts_are_none(text: str) -> None:
    assert not is_import_path(text)


def test_the_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"in_{name}.py").write_text(f"def give():\n    return {name!r}\n")
    for name in ("one", "two"):
        folder = str(tmp_path / name)
        function = import_function(f"in_{name}:give", folder=folder, parameter="dataset", does="returns images")
        assert function() == name
        assert sys.path[0] == folder
        del sys.modules[f"in_{name}"]


def test_messages_name_the_parameter_and_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^`images` json:__name__: .* is of type str; name a function that sings$"):
        import_function("json:__name__", folder=str(tmp_path), parameter="images", does="sings")
    sys.path.remove(str(tmp_path))


def test_what_was_raised_is_on_one_line() -> None:
    assert words_of(ValueError("two\n  lines")) == "ValueError: two lines"
