"""Digests of the code behind networks; what is said of import paths is tested with the networks they name."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from search.errors import UsageError
from search.images.python_path import import_function
from search.space import code_digests
from search.space.code_digests import class_digests, source_digests


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(code_digests, "_files", {})
    yield
    for name in ("parts", "base"):
        sys.modules.pop(name, None)


BASE = "from torch import nn\nclass Base(nn.Module):\n    pass\n"
PARTS = "from base import Base\nclass Part(Base):\n    pass\n"


def part(folder: Path, *, base: str = BASE, parts: str = PARTS) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "base.py").write_text(base)
    (folder / "parts.py").write_text(parts)
    return import_function("parts:Part", folder=str(folder), parameter="network", does="builds a network")


def test_a_class_of_a_file_is_told_by_its_file_and_those_of_its_bases(tmp_path: Path) -> None:
    found = []
    for name, sources in {
        "first": {},
        "same": {},
        "parts": {"parts": PARTS + "# a remark"},
        "base": {"base": BASE + "# a remark"},
    }.items():
        found.append(class_digests([part(tmp_path / name, **sources)]))
        for module in ("parts", "base"):
            del sys.modules[module]
        sys.path.remove(str(tmp_path / name))
    assert found[0].keys() == {"parts", "base"}
    assert found[0] == found[1]
    assert found[0]["base"] == found[2]["base"]
    assert found[0]["parts"] != found[2]["parts"]
    assert found[0]["base"] != found[3]["base"]


def test_torchs_own_classes_are_left_out() -> None:
    assert class_digests([nn.Linear, nn.Sequential]) == {}
    assert source_digests(["torch.nn.functional"]) == {}


NOTEBOOK = """
class Part(nn.Module):
    scale = 2
    def forward(self, images):
        return images * self.scale if images.shape[0] in {"a", "b"} else helper(images)
    @property
    def double(self): return 2
"""


def cell(source: str) -> type:
    """Return the class of a notebook's cell, or of a script."""
    scope: dict[str, Any] = {"__name__": "__main__", "nn": nn}
    exec(source, scope)  # noqa: S102
    found: type = scope["Part"]
    return found


def test_a_class_without_a_file_is_told_by_its_code() -> None:
    digests = class_digests([cell(NOTEBOOK)])
    assert digests.keys() == {"__main__.Part"}
    assert class_digests([cell("\n\n# a remark" + NOTEBOOK)]) == digests
    for before, after in (
        ("scale = 2", "scale = 3"),
        ("images * self", "images + self"),
        ("helper(images)", "other(images)"),
        ("return 2", "return 3"),
        ('"b"', '"c"'),
        ("double(self)", "twice(self)"),
    ):
        assert class_digests([cell(NOTEBOOK.replace(before, after))]) != digests


def test_the_base_of_a_class_without_a_file_is_told_apart_too() -> None:
    derived = NOTEBOOK.replace("class Part", "class Base") + "class Part(Base): pass\n"
    found = class_digests([cell(derived)])
    assert found.keys() == {"__main__.Part", "__main__.Base"}
    other = class_digests([cell(derived.replace("scale = 2", "scale = 3"))])
    assert other["__main__.Base"] != found["__main__.Base"]
    assert other["__main__.Part"] == found["__main__.Part"]


def test_a_file_that_was_edited_after_its_import_is_refused(tmp_path: Path) -> None:
    found = part(tmp_path)
    class_digests([found])
    (tmp_path / "base.py").write_text(BASE + "# a remark")
    with pytest.raises(UsageError, match=r"base\.py was edited after this process imported it; start a new one"):
        class_digests([found])


def test_a_module_without_a_file_has_no_digest() -> None:
    assert source_digests(["sys"]) == {"sys": None}
