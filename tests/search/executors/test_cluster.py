"""A search joins a cluster of two nodes, both of them processes of this machine, and outlives one of them."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from search.store.database import Store

BUDGET = 12
# As small as possible and slow to build: the search must not end before the node is gone.
NETWORK = """
import time
from torch import nn

def build(image_shape, classes):
    time.sleep(0.5)
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
"""
# In a separate process, because Ray keeps the first token that a process uses.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
print("address", cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.communicate("\n\n", timeout=60)


def answer(output: IO[str] | None, word: str) -> str:
    """Return what follows a word at the start of a line, among Ray's other lines."""
    assert output is not None
    for line in output:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    raise AssertionError("the cluster ended")


def evaluations(url: str) -> int:
    with Store.open(url, create=False) as store:
        searches = store.searches.all()
        return store.searches.trial_counts(searches[0]).finished if searches else 0


@pytest.mark.process
@pytest.mark.slow
def test_a_search_outlives_a_node_of_its_cluster(cluster: subprocess.Popen[str], tmp_path: Path) -> None:
    assert cluster.stdin is not None
    (tmp_path / "nets.py").write_text(NETWORK)
    url = f"sqlite:///{tmp_path / 'results.db'}"
    Store.open(url, create=True).close()
    cache = tmp_path / "shared"
    command = [sys.executable, "-m", "search", "run", "--network", "nets:build", "--budget", str(BUDGET)]
    command += ["--effort", "quick", "--no-confirm", "--storage", url, "--cache", cache.as_uri(), "--json"]
    with subprocess.Popen(
        [*command, "--ray-address", answer(cluster.stdout, "address")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as process:
        while evaluations(url) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        answer(cluster.stdout, "removed")
        assert evaluations(url) < BUDGET
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    with Store.open(url, create=False) as store:
        counts = store.searches.trial_counts(store.searches.find(json.loads(output)["name"]))
    assert (counts.finished, counts.failed) == (BUDGET, 0)
    assert any(cache.rglob("*"))
