"""What may load what, shown by loading it. The layers themselves are checked by import-linter in `make check`."""

import subprocess
import sys

import pytest

from tests.support.timing import processor_seconds

pytestmark = pytest.mark.process

HEAVY = {"torch", "torchvision", "ray", "sklearn"}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["service.app", "search", "search.api._run", "search.cli.main", "search.store.database", "search.answers.result"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


def test_energy_loads_no_framework() -> None:
    assert not loaded_by("import energy") & (HEAVY | {"optuna", "sqlalchemy", "fastapi", "click"})


def test_approx_is_useful_alone() -> None:
    assert not loaded_by("import approx") & {"optuna", "ray", "sqlalchemy", "fastapi", "search", "energy"}


def test_energy_imports_fast() -> None:
    assert min(processor_seconds([sys.executable, "-c", "import energy"]) for _ in range(3)) < 0.5
