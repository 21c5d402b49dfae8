"""Benchmarks run, whatever they measure here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.process
@pytest.mark.slow
def test_the_arithmetic_benchmark_runs(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.arithmetic", "--turns", "1", "--json", str(results)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a bound is missed, which one turn says nothing about
    content = json.loads(results.read_text())
    assert content["machine"]["cpu"]
    names = [row["name"] for row in content["results"]]
    assert sum("whole" in name or "batch" in name for name in names) == 12
    assert sum("sums of 16 bits" in name for name in names) == 5
    assert all(row["ratio"] > 0 for row in content["results"])
    for name in names:
        assert name in done.stdout
