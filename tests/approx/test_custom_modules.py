import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from approx import custom_modules

declare_operators = custom_modules._declare_torchvision_operators.__wrapped__  # each time, not once a process


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the operators that are declared, of which torch knows none before."""
    names: list[str] = []
    monkeypatch.setattr(torch.library, "define", lambda name, schema: names.append(name))
    monkeypatch.setattr(torch.ops, "torchvision", SimpleNamespace())
    return names


@pytest.mark.process
def test_torchvision_is_imported_whatever_torch_was_built_for(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("from torchvision.models import resnet18\n")
    code = """
import sys
import torch
from approx.custom_modules import import_custom_module

try:
    import torchvision  # as a user's script may have tried, in vain beside a CPU build of torch
except RuntimeError:
    pass
network = import_custom_module("nets").resnet18(num_classes=10).eval()
assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_operators_that_torchvision_declares_are_left_to_it(
    declared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where both were built for CUDA, or both for CPUs: then the compiled part of torchvision can be loaded."""
    libraries = []

    def load(path: str) -> None:
        libraries.append(Path(path))
        vars(torch.ops.torchvision).update(nms=..., qnms=...)

    monkeypatch.setattr(torch.ops, "load_library", load)
    declare_operators()
    assert [(path.parent.name, path.stem) for path in libraries] == [("torchvision", "_C")]
    assert not declared


def test_operators_are_declared_where_torchvision_does_not(
    declared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError("libtorch_cuda.so: cannot open shared object file")

    monkeypatch.setattr(torch.ops, "load_library", fail)
    declare_operators()
    assert declared == ["torchvision::nms", "torchvision::qnms"]


def test_torchvision_may_be_absent(declared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_modules, "find_spec", lambda name: None)
    declare_operators()
    assert not declared


def test_torchvision_is_not_imported_for_modules_that_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    custom_modules.import_custom_module("json")
    assert "torchvision" not in sys.modules
