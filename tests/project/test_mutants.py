"""The list of seeded faults fits the sources, and the program that tries them notices what it should."""

import ast
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from tests.mutation.copied import Copy
from tests.mutation.mutant import Edit, read_mutants

ROOT = Path(__file__).parents[2]
MUTANTS = read_mutants()


def content_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def parsed(file: str, content: str) -> object:
    """What a file says, whatever its comments and blanks."""
    return ast.dump(ast.parse(content)) if file.endswith(".py") else yaml.safe_load(content)


def test_there_are_enough_and_each_has_its_name() -> None:
    assert len(MUTANTS) >= 60
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


def edited_files() -> dict[str, list[tuple[str, Edit]]]:
    found: dict[str, list[tuple[str, Edit]]] = defaultdict(list)
    for mutant in MUTANTS:
        for edit in mutant.edits:
            found[edit.file].append((mutant.name, edit))
    return found


@pytest.mark.parametrize("file", sorted(edited_files()))
def test_no_edit_is_stale(file: str) -> None:
    """Its original text occurs exactly once, and its replacement is a fault and not a mistake of syntax."""
    content = content_of(file)
    before = parsed(file, content)
    for name, edit in edited_files()[file]:
        assert content.count(edit.original) == 1, f"{name}: bring its original text up to date: {edit.original}"
        assert parsed(file, edit.applied_to(content)) != before, name


def test_each_edits_a_file_once_and_has_nearest_tests() -> None:
    for mutant in MUTANTS:
        files = [edit.file for edit in mutant.edits]
        assert len(set(files)) == len(files), mutant.name
        assert mutant.tests, mutant.name
        assert [path for path in mutant.tests if not (ROOT / path).exists()] == [], mutant.name


@pytest.mark.slow
@pytest.mark.process
def test_a_fault_is_noticed_in_a_copy_and_leaves_no_trace(tmp_path: Path) -> None:
    file, tests = "energy/compression.py", ["tests/energy/test_compression.py"]
    fault = Edit(file=file, original="INDEX_BITS = 4", replacement="INDEX_BITS = 5")
    harmless = Edit(file=file, original="INDEX_BITS = 4", replacement="INDEX_BITS = 4 + 0")
    broken = Edit(file=file, original="INDEX_BITS = 4", replacement="INDEX_BITS = (4")
    before, time = content_of(file), os.stat(ROOT / file).st_mtime_ns
    with Copy(ROOT, tmp_path) as copy:
        assert copy.failing_test(tests, edits=[fault]).startswith("tests/energy/test_compression.py::")
        assert copy.failing_test(tests, edits=[harmless]) == ""
        assert copy.failing_test(tests, edits=[broken]) != ""
        assert copy.failing_test(["tests/project/test_imports.py"], edits=[harmless], processes=1) == ""
        assert copy.failing_test(tests) == ""  # every edit was undone
    assert (content_of(file), os.stat(ROOT / file).st_mtime_ns) == (before, time)
