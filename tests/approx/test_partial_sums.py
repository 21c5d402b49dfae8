"""Layers whose running sums are narrow, against sums made one Python integer at a time."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import approx
from approx import (
    ApproxLayer,
    ArgumentError,
    FaultyMemory,
    LayerApproximation,
    OverflowCount,
    PartialSums,
    approximate,
    magnitude_masks,
    overflows,
    use_chip,
)
from approx.modules import as_convolution
from approx.quantization import code_range
from tests.approx.arithmetic.test_narrow_sums import oracle

NARROW = LayerApproximation(partial_sums=PartialSums(bits=16))
FAULTY = FaultyMemory(bit_error_rate=0.02)


def real(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(60, 7), (5, 60)),
    "linear of tokens": (lambda: nn.Linear(60, 7, bias=False), (2, 3, 60)),
    "convolution": (lambda: nn.Conv2d(3, 5, 3, padding=1), (2, 3, 6, 6)),
    "strided and dilated": (lambda: nn.Conv2d(4, 4, (3, 2), (2, 1), (2, 1), (1, 2), bias=False), (2, 4, 7, 6)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=2), (2, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 4, groups=4), (2, 4, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2), (2, 4, 4, 4)),
}


def expected(made: ApproxLayer, inputs: Tensor, weights: Tensor, codes: Tensor) -> tuple[Tensor, int]:
    """The layer's output by the definition, from the codes that reach its multipliers, and its overflowing sums."""
    assert made.config.partial_sums is not None
    options: dict[str, Any] = {}
    if isinstance(made, approx.ApproxLinear):
        codes, weights = codes.reshape(-1, codes.shape[-1], 1, 1), weights[:, :, None, None]
    elif isinstance(made, approx.ApproxConv2d):
        options = {"stride": made.stride, "dilation": made.dilation, "groups": made.groups}
        left, right, above, below = made.pad
        codes = nn.functional.pad(codes, (left, right, above, below))
    else:
        assert isinstance(made, approx.ApproxConvTranspose2d)
        rows, columns = made.upsampling
        spread = codes.new_zeros(*codes.shape[:2], (codes.shape[2] - 1) * rows + 1, (codes.shape[3] - 1) * columns + 1)
        spread[:, :, ::rows, ::columns] = codes
        codes, options = nn.functional.pad(spread, made.pad), {"dilation": made.dilation, "groups": made.groups}
    sums, overflowed = oracle(codes, weights, made.multiplier, made.config.partial_sums, **options)
    out = sums.float() * made.output_scale()[:, None, None]
    if made.bias is not None:
        out = out + made.bias[:, None, None]
    if isinstance(made, approx.ApproxLinear):
        out = out[:, :, 0, 0].reshape(*inputs.shape[:-1], -1)
    return out, overflowed


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("multiplier", ["exact", "mitchell", "asm-1"])
@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_layers_make_narrow_sums_to_the_bit(kind: str, multiplier: str, signed: bool, overflow: str) -> None:
    build, shape = LAYERS[kind]
    torch.manual_seed(1)
    layer, inputs = build(), real(*shape)
    inputs = inputs if signed else inputs.abs()
    sums = PartialSums(bits=13, overflow=overflow)
    config = replace(NARROW, multiplier=multiplier, partial_sums=sums)
    masks = {"": magnitude_masks({"": layer.weight}, 0.4)[""]}
    made = approximate(layer, config, calibration_data=inputs, masks=masks)
    assert isinstance(made, ApproxLayer)
    low, high = code_range(8, made.activation_signed)
    codes = (inputs / made.activation_scale).clamp(low, high).round().to(torch.int64)
    out, overflowed = expected(made, inputs, made.stored_codes().to(torch.int64), codes)
    assert torch.equal(made(inputs), out)
    assert overflows(made) == {"": OverflowCount(out.numel(), overflowed)}
    exact = approximate(layer, replace(config, partial_sums=None), calibration_data=inputs, masks=masks)
    assert torch.equal(exact(inputs), out) == (overflowed == 0)
    assert overflowed > 0


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
@pytest.mark.parametrize("kind", ["linear", "grouped", "transposed"])
@torch.no_grad()
def test_codes_that_faults_make_are_summed_narrowly(kind: str, overflow: str) -> None:
    build, shape = LAYERS[kind]
    torch.manual_seed(2)
    layer, inputs = build(), real(*shape)
    sums = PartialSums(bits=14, overflow=overflow)
    made: Any = approximate(
        layer,
        replace(NARROW, partial_sums=sums, weight_memory=FAULTY, activation_memory=FAULTY),
        calibration_data=inputs,
    )
    use_chip(made, 3)
    weights = made.read_codes().to(torch.int64)
    codes = (inputs / made.activation_scale).clamp(-127, 127).round()
    codes = made._chip.read_activations(codes).to(torch.int64)
    assert not torch.equal(weights, made.stored_codes())
    out, overflowed = expected(made, inputs, weights, codes)
    assert overflowed > 0
    assert torch.equal(made(inputs), out)


def test_as_convolution_is_the_order_of_a_transposed_convolution() -> None:
    """Its products are added in the order of the equivalent convolution, of which `weight` is the weight."""
    layer = nn.ConvTranspose2d(1, 1, (1, 3), bias=False)
    layer.weight.data = torch.tensor([[[[-127.0, 127.0, 127.0]]]]) / 127
    inputs = torch.ones(1, 1, 1, 3)
    config = LayerApproximation(partial_sums=PartialSums(bits=16), activation_signed=False)
    made: Any = approximate(layer, config, calibration_data=inputs)
    assert torch.equal(made.weight, as_convolution(layer.weight.detach(), 1))
    with torch.no_grad():
        middle = made(inputs)[0, 0, 0, 2] / made.output_scale()
    code, weight = 255, 127  # 127 x 255 fits, twice of it saturates, and then the negative product comes
    assert made.stored_codes().flatten().tolist() == [weight, weight, -weight]
    assert round(float(middle)) == 32767 - code * weight


@pytest.mark.parametrize("gradient", ["straight-through", "difference"])
@pytest.mark.parametrize("learned", [True, False])
def test_narrow_layers_can_be_retrained(gradient: str, learned: bool) -> None:
    torch.manual_seed(3)
    inputs, labels = real(200, 30).abs(), torch.arange(200) % 2
    inputs[labels == 1, :10] += 1
    network = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 2))
    config = replace(NARROW, partial_sums=PartialSums(bits=18), gradient=gradient, learned_scales=learned)
    made = approximate(network, config, calibration_data=inputs)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)

    def loss() -> Tensor:
        return nn.functional.cross_entropy(made(inputs), labels)

    before = loss().item()
    for _ in range(60):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss().item() < 0.5 * before
    assert all(count.overflowed > 0 for count in overflows(made).values())


def test_narrow_layers_are_saved_copied_and_shown(tmp_path: Path) -> None:
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = approx.build_named_network(family="lenet", depth=2, width=3, image_shape=(1, 8, 8), classes=10)
    model = approximate(network, replace(NARROW, partial_sums=PartialSums(bits=14)), calibration_data=images)
    with torch.no_grad():
        out = model(images)
    approx.save(model, tmp_path / "model", example_input=images)
    again = approx.load(tmp_path / "model")
    for one in (again, copy.deepcopy(model)):
        assert torch.equal(one(images), out)
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert content["layers"]["0"]["config"]["partial_sums"] == {"bits": 14, "overflow": "saturate"}
    assert content["onnx_equals_model"] is False
    assert "multiplier='exact', partial_sums=14 bits that saturate" in repr(again)
    assert "partial_sums" not in repr(approximate(network, LayerApproximation(), calibration_data=images))


@pytest.mark.parametrize(("bits", "equal"), [(16, False), (32, True)])
def test_onnx_has_no_narrow_sums_and_says_so(bits: int, equal: bool) -> None:
    model = approximate(
        nn.Linear(40, 3), replace(NARROW, partial_sums=PartialSums(bits=bits)), calibration_data=real(5, 40)
    )
    assert approx.equal_in_onnx(model) is equal
    proto = approx.to_onnx(model, example_input=real(2, 40))
    about = {one.key: one.value for one in proto.metadata_props}
    assert about["crosslayer.equals_model"] == ("true" if equal else "false")
    assert about.get("crosslayer.sums") == (None if equal else "exact here, and of fixed widths in the model")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bits": 1}, "`bits` must be between 2 and 32, got 1"),
        ({"bits": 33}, "`bits` must be between 2 and 32, got 33"),
        ({"bits": 16.0}, r"`bits` must be a whole number, got 16\.0"),
        ({"bits": 16, "overflow": "clip"}, "`overflow` must be one of saturate, wrap; got 'clip'"),
    ],
)
def test_sums_that_cannot_be_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        PartialSums(**wrong)


def test_a_layer_takes_partial_sums_only() -> None:
    with pytest.raises(ArgumentError, match=r"`partial_sums` must be an approx\.PartialSums or None, got 16; such as"):
        LayerApproximation(partial_sums=16)  # type: ignore[arg-type]
