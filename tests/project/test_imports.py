"""What may load what, shown by loading it. The layers themselves are checked by import-linter in `make check`."""

import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "ray", "sklearn"}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["service.app", "search", "search.api", "search.cli", "search.store", "search.result"]
)
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


def test_energy_loads_no_framework() -> None:
    assert not loaded_by("import energy") & (HEAVY | {"optuna", "sqlalchemy", "fastapi", "click"})


def test_approx_is_useful_alone() -> None:
    assert not loaded_by("import approx") & {"optuna", "ray", "sqlalchemy", "fastapi", "search", "energy"}


def test_energy_imports_fast() -> None:
    def processor_seconds() -> float:  # the time on the clock is also that of the tests beside this one
        before = os.times()
        subprocess.run([sys.executable, "-c", "import energy"], check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(processor_seconds() for _ in range(3)) < 0.5
