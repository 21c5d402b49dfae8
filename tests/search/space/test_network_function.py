"""How functions and classes that build networks are called."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from search.errors import UsageError
from search.space.network_function import NetworkFunction

HEAD = """
from functools import partial
from torch import nn
def net(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("functions", None)


def function(folder: Path, source: str, *, sized: bool = True, name: str = "build") -> NetworkFunction:
    (folder / "functions.py").write_text(f"{HEAD}{source}\n")
    return NetworkFunction(f"functions:{name}", str(folder), image_shape=(1, 8, 8), classes=10, sized=sized)


SHAPE, CLASSES, NUM_CLASSES = {"image_shape": (1, 8, 8)}, {"classes": 10}, {"num_classes": 10}
DEPTH, WIDTH = {"depth": 2}, {"width": 5}


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("def build(): return net()", {}),
        ("def build(image_shape): return net()", SHAPE),
        ("def build(classes): return net(classes)", CLASSES),
        ("def build(num_classes=1000): return net(num_classes)", NUM_CLASSES),
        ("def build(*, num_classes, image_shape): return net(num_classes)", SHAPE | NUM_CLASSES),
        ("def build(**options): return net(**{'classes': options['num_classes']})", NUM_CLASSES),
        ("def build(classes, **options): assert not options; return net(classes)", CLASSES),
        ("def build(image_shape, **options): return net(options['num_classes'])", SHAPE | NUM_CLASSES),
        ("def build(width, classes, depth=1, rate=0.5): return net(classes)", CLASSES | DEPTH | WIDTH),
        ("build = partial(net, classes=10)", CLASSES),
        ("class build(nn.Sequential):\n    def __init__(self): super().__init__(*net())", {}),
        ("class build(nn.Sequential):\n    def __init__(self, num_classes): super().__init__(*net())", NUM_CLASSES),
        ("class build(nn.Linear):\n    def __init__(self, **rest): super().__init__(8, 10)", NUM_CLASSES),
        ("class build(nn.Module):\n    pass", {}),
    ],
)
def test_a_function_gets_by_name_what_it_takes(tmp_path: Path, source: str, arguments: dict[str, Any]) -> None:
    assert function(tmp_path, source).arguments(depth=2, width=5) == arguments


def test_a_network_is_built_with_these(tmp_path: Path) -> None:
    built = function(tmp_path, "def build(num_classes): return net(num_classes)").build(depth=1, width=1, seed=0)
    assert built(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_a_class_without_arguments_is_built(tmp_path: Path) -> None:
    source = "class Net(nn.Module):\n    weight = 0.0\n    def forward(self, images): return images.flatten(1)[:, :10]"
    assert type(function(tmp_path, source, name="Net").build(depth=1, width=1, seed=0)).__name__ == "Net"


def test_sizes_that_are_not_chosen_are_as_the_function_has_them(tmp_path: Path) -> None:
    source = "def build(classes, depth=7, width=9): assert (depth, width) == (7, 9); return net(classes)"
    found = function(tmp_path, source, sized=False)
    assert found.arguments(depth=2, width=5) == CLASSES
    assert found.largest == {}
    assert isinstance(found.build_largest(), nn.Sequential)


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ("classes, depth", "functions:build needs depth, which trained weights leave no choice of; give it a default"),
        ("width, depth", "functions:build needs depth and width, .* give them defaults"),
    ],
)
def test_sizes_that_trained_weights_fix_need_defaults(tmp_path: Path, taken: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        function(tmp_path, f"def build({taken}): return net()", sized=False)


@pytest.mark.parametrize("taken", ["shape", "image_shape, rate", "classes, /", "block, layers, num_classes=10"])
def test_a_function_that_needs_something_else_is_refused(tmp_path: Path, taken: str) -> None:
    with pytest.raises(
        UsageError,
        match=r"functions:build takes \(.*\); it may take image_shape, classes or num_classes, depth and width by "
        "name, and must not need anything else",
    ):
        function(tmp_path, f"def build({taken}): return net()")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_functions_of_torchvision_get_the_number_of_classes(tmp_path: Path, name: str) -> None:
    found = NetworkFunction(f"torchvision.models:{name}", str(tmp_path), image_shape=(3, 32, 32), classes=7, sized=True)
    assert found.arguments(depth=1, width=1) == {"num_classes": 7}
    assert found.build_largest()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.slow
def test_a_function_of_torchvision_says_that_gray_images_do_not_fit(tmp_path: Path) -> None:
    found = NetworkFunction(
        "torchvision.models:resnet18", str(tmp_path), image_shape=(1, 28, 28), classes=7, sized=True
    )
    with pytest.raises(UsageError, match=r"images of 1x28x28 .*: its first layer 'conv1' takes 3 channels and gets 1"):
        found.build_largest()
