from collections.abc import Iterator
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from approx.arithmetic import native
from approx.arithmetic.pooling import MaxPool2
from approx.errors import ArgumentError

SHAPES = (
    (1, 40, 30, 30),
    (3, 5, 61, 37),
    (64, 2, 16, 31),
    (40, 30, 30),
    (1, 1, 400, 83),
    (2, 4000, 2, 3),
    (9, 1000, 2, 9),
)


@pytest.fixture(params=["baseline", "x86-64-v3", "x86-64-v4"])
def library(request: pytest.FixtureRequest) -> Iterator[native.Library]:
    """Each build that runs here."""
    found = native.load()
    if found is None:
        pytest.skip(native.why_not_loaded())
    used = found.build
    try:
        found.choose_build(request.param)
    except ArgumentError as error:
        pytest.skip(str(error))
    yield found
    found.choose_build(used)


def values_of(shape: tuple[int, ...]) -> Tensor:
    """Values of which many are equal, as after ReLU or on few bits."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(2).round().clamp(min=-1)


def gradients_of(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is pooled by torch and by the layer, and both gradients."""
    found = []
    for pool in (lambda tensor: F.max_pool2d(tensor, 2), MaxPool2()):
        leaf = values.clone().requires_grad_()
        pooled = pool(leaf)
        pooled.backward(torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1)))
        assert leaf.grad is not None
        found += [pooled, leaf.grad]
    expected, by_expected, pooled, by_values = found
    return expected, pooled, by_expected, by_values


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchs(shape: tuple[int, ...]) -> None:
    expected, pooled, by_expected, by_values = gradients_of(values_of(shape))
    assert "LargestOfFour" in type(pooled.grad_fn).__name__
    assert torch.equal(pooled, expected)
    assert torch.equal(by_values, by_expected)


@pytest.mark.usefixtures("library")
def test_every_order_of_a_window() -> None:
    windows = torch.tensor([*product((0.0, 1.0, 2.0, 3.0), repeat=4)]).view(-1, 1, 2, 2)
    expected, pooled, by_expected, by_values = gradients_of(windows.repeat(40, 1, 1, 1))
    assert torch.equal(pooled, expected)
    assert torch.equal(by_values, by_expected)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("place", range(4))
def test_what_is_not_a_number_is_not_lost(place: int) -> None:
    values = values_of((1, 40, 30, 30))
    values[0, 3, place // 2, place % 2] = torch.nan
    assert torch.equal(MaxPool2()(values).isnan(), F.max_pool2d(values, 2).isnan())
    assert MaxPool2()(values).isnan().sum() == 1


def test_any_layout_and_type() -> None:
    turned = values_of((1, 40, 30, 30)).transpose(2, 3)
    for values in (turned, turned.contiguous(memory_format=torch.channels_last), turned.double(), turned[..., ::2]):
        expected, pooled, by_expected, by_values = gradients_of(values)
        assert torch.equal(pooled, expected)
        assert torch.equal(by_values, by_expected)


@pytest.mark.parametrize("shape", [(200, 200), (4, 4, 1, 4000), (4, 0, 300, 300)])
def test_it_refuses_what_torch_refuses(shape: tuple[int, ...]) -> None:
    values = torch.zeros(shape)
    for pool in (lambda tensor: F.max_pool2d(tensor, 2), MaxPool2()):
        with pytest.raises((RuntimeError, IndexError)):
            pool(values)


def test_an_exported_program_has_torchs_operator() -> None:
    program = torch.export.export(MaxPool2(), (values_of((1, 40, 30, 30)),))
    assert any("max_pool2d" in str(node.target) for node in program.graph.nodes)
