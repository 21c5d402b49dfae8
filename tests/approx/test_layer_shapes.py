import copy
from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from approx import (
    LayerApproximation,
    LayerShape,
    NetworkApproximation,
    approx_layers,
    approximate,
    other_weights,
    trace,
)
from approx.errors import ArgumentError


def shapes(model: nn.Module, *size: int) -> dict[str, tuple[int, int, int, int]]:
    found = trace(model, torch.zeros(1, *size))
    return {one.name: (one.positions, one.inner, one.outputs, one.input_values) for one in found}


def test_layers_by_hand_in_the_order_in_which_they_run() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(10, 7)
            self.depthwise = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4)
            self.stem = nn.Conv2d(3, 4, (3, 5), padding=(1, 2))
            self.unused = nn.Linear(2, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            out: Tensor = self.head(
                input=self.depthwise(self.stem(inputs)).flatten(2).transpose(1, 2)[:, :, :1].expand(-1, -1, 10)
            )
            return out

    assert shapes(Net(), 3, 6, 8) == {
        "stem": (6 * 8, 3 * 3 * 5, 4, 3 * 6 * 8),
        "depthwise": (3 * 4, 9, 8, 4 * 6 * 8),
        "head": (12, 10, 7, 12 * 10),  # a linear layer on a sequence of twelve
    }
    assert [one.name for one in trace(Net(), torch.zeros(1, 3, 6, 8))] == ["stem", "depthwise", "head"]


def test_a_layer_that_runs_twice_counts_twice() -> None:
    layer = nn.Linear(4, 4)
    nn.init.ones_(layer.bias)
    found = trace(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 4))
    shape = LayerShape(name="0", positions=1, inner=4, outputs=4, input_values=4)
    assert [replace(one, input_density=1.0) for one in found] == [shape, shape]
    assert found[0].input_density == 0.0 < found[1].input_density  # the bias makes what the second run reads


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 3}, (4, 5)),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}, (4, 5)),
        ({"kernel_size": (2, 3), "stride": (2, 3), "groups": 2, "dilation": 2}, (3, 3)),
    ],
)
def test_a_transposed_convolution_is_the_convolution_it_amounts_to(
    options: dict[str, Any], size: tuple[int, int]
) -> None:
    layer = nn.ConvTranspose2d(4, 6, **options)
    data = torch.rand(1, 4, *size)
    (found,) = trace(layer, data)
    ((_, made),) = approx_layers(approximate(layer, LayerApproximation(), calibration_data=data))
    assert found == LayerShape(
        name="",
        positions=prod(layer(data).shape[2:]),
        inner=prod(made.weight.shape[1:]),
        outputs=6,
        input_values=4 * prod(size),
        groups=options.get("groups", 1),
        kernel_height=layer.kernel_size[0],
        kernel_width=layer.kernel_size[1],
        output_height=layer(data).shape[2],
    )


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(2), nn.Linear(16, 5)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 8), nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)),
    ],
)  # fmt: skip
def test_products_are_as_many_as_torch_counts(model: nn.Module) -> None:
    data = torch.rand(1, 3, 8, 8)
    counter = FlopCounterMode(display=False)
    with counter:
        model.train()(data)
    counted = sum(
        operations
        for packet, operations in counter.flop_counts["Global"].items()
        if not any(word in str(packet) for word in ("bmm", "attention"))  # of activations with each other
    )
    assert sum(one.positions * one.inner * one.outputs for one in trace(model, data)) == counted // 2


def test_shapes_are_of_one_input_and_densities_of_the_whole_batch() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, (3, 5), groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4 * 3, 2))
    data = torch.rand(5, 4, 6, 7)
    data[0] = 0
    convolution, linear = trace(model, data)
    one = {shape.name: shape for shape in trace(model, data[1:2])}
    for shape in (convolution, linear):
        assert (shape.positions, shape.input_values) == (one[shape.name].positions, one[shape.name].input_values)
    assert (convolution.groups, convolution.kernel_height, convolution.kernel_width) == (2, 3, 5)
    assert (convolution.output_height, linear.output_height, linear.kernel_height) == (4, 1, 1)
    assert convolution.input_density == 0.8
    activations = model[:3](data)
    assert linear.input_density == pytest.approx(float((activations != 0).float().mean()))


def test_the_layers_are_those_that_are_approximated() -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    )
    data = torch.rand(1, 5, 6)
    converted = approximate(model, LayerApproximation(), calibration_data=data)
    assert [one.name for one in trace(model, data)] == [name for name, _ in approx_layers(converted)]
    assert "1.self_attn.query" in shapes(model, 5, 6)


def test_a_converted_network_has_the_same_shapes() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, (2, 3), stride=2, groups=2),
        nn.Flatten(2),
        nn.Linear(10 * 13, 5),
    )
    data = torch.rand(3, 4, 5, 6)
    config = NetworkApproximation(default=LayerApproximation(weight_bits=4), overrides={"4": None})
    before, after = trace(model, data), trace(approximate(model, config, calibration_data=data), data)
    assert [one.name for one in after] == ["0", "2", "4"]
    assert [replace(one, input_density=1.0) for one in after] == [replace(one, input_density=1.0) for one in before]


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 2, 3), nn.ConvTranspose2d(3, 2, 3), nn.Linear(3, 2)])
def test_an_input_that_is_no_batch_is_refused(layer: nn.Module) -> None:
    single = torch.rand(3, 4, 5) if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else torch.rand(3)
    assert trace(layer, single[None])[0].input_values == single.numel()
    for model in (layer, approximate(layer, LayerApproximation(), calibration_data=single[None])):
        with pytest.raises(
            ArgumentError, match=r"but layer '' gets a single one of shape .* with example_input\[None\]"
        ):
            trace(model, single)
    for empty in (torch.tensor(1.0), single[:0]):
        with pytest.raises(ArgumentError, match=r"`example_input` must be a batch of inputs, got shape"):
            trace(layer, empty)


def test_weights_that_other_layers_multiply_are_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(3, 4)
            self.cell = nn.GRU(4, 4, batch_first=True)
            self.head = nn.Parameter(torch.rand(4, 2))
            self.gain = nn.Parameter(torch.rand(2))

        def forward(self, inputs: Tensor) -> Tensor:
            hidden, _ = self.cell(self.stem(inputs))
            scores: Tensor = self.gain * (hidden[:, -1] @ self.head)
            return scores

    data = torch.rand(2, 5, 3)
    assert set(other_weights(Net(), data)) == {"cell.weight_ih_l0", "cell.weight_hh_l0", "head"}
    left = NetworkApproximation(default=LayerApproximation(), leave_unsupported=True)
    assert "head" in other_weights(approximate(Net(), left, calibration_data=data), data)
    attention = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    assert other_weights(attention, torch.rand(2, 5, 8)) == ()


def test_the_network_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4, 2)).train()
    data, before = torch.rand(1, 3, 3, 3), copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    assert len(trace(model, data)) == 2  # in training one value a channel would be too few
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    with pytest.raises(ArgumentError):
        trace(model, torch.rand(1, 2, 3, 3))
    assert not any(module._forward_hooks for module in model.modules())
