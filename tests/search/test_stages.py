import multiprocessing
import time
from pathlib import Path

import pytest
import torch

from search.stages import StageStore, Tensors

KEY = "ab" + "0" * 62


def test_a_stage_is_computed_once_and_kept(tmp_path: Path) -> None:
    calls = []

    def compute() -> Tensors:
        calls.append(1)
        return {"weight": torch.arange(3.0)}

    for _ in range(2):
        found = StageStore(tmp_path).get_or_compute(KEY, compute)
        assert torch.equal(found["weight"], torch.arange(3.0))
    assert len(calls) == 1


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    store.get_or_compute(KEY, lambda: {"weight": torch.arange(3.0)})
    (path,) = tmp_path.glob("*/*.pt")
    path.write_bytes(path.read_bytes()[:100])
    found = store.get_or_compute(KEY, lambda: {"weight": torch.ones(2)})
    assert torch.equal(found["weight"], torch.ones(2))
    assert torch.equal(store.get_or_compute(KEY, dict)["weight"], torch.ones(2))


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> Tensors:
        raise ArithmeticError

    store = StageStore(tmp_path)
    with pytest.raises(ArithmeticError):
        store.get_or_compute(KEY, fail)
    assert list(tmp_path.glob("*/*.pt")) == []
    assert store.get_or_compute(KEY, lambda: {"weight": torch.ones(1)})


def _slowly(folder: Path, log: Path) -> None:
    def compute() -> Tensors:
        with log.open("a") as file:
            file.write("computed\n")
        time.sleep(1)
        return {"weight": torch.ones(1)}

    StageStore(folder).get_or_compute(KEY, compute)


def test_of_several_processes_one_computes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    workers = [context.Process(target=_slowly, args=(tmp_path / "stages", log)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.read_text() == "computed\n"
