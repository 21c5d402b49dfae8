"""Training computes in the precision that was asked for, and in the layout; what it leaves is as in any other."""

import time

import pytest
import torch
from torch import Tensor, nn

import approx
from approx import precision
from approx.labelled_images import LabelledImages
from approx.precision import BFLOAT16, CHANNELS_LAST, FLOAT32, PRECISIONS
from approx.training import Schedule, fit
from search.defaults import PRECISIONS as OF_SEARCHES

IMAGES = LabelledImages(
    torch.randint(0, 256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
    torch.arange(64) % 4,
    255,
)


def network() -> nn.Sequential:
    return approx.build_network(
        approx.Architecture(family="resnet", depth=1, width=4), image_shape=(3, 8, 8), classes=4, seed=0
    )


def trained(precision: str, *, epochs: float = 4) -> nn.Sequential:
    model = network()
    fit(model, IMAGES, Schedule(epochs=epochs, batch_size=16, learning_rate=1e-2, precision=precision), seed=0)
    return model


def test_searches_know_the_same_precisions() -> None:
    assert OF_SEARCHES == PRECISIONS


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_layers_compute_in_it(name: str) -> None:
    model, seen = network(), []
    first = next(one for one in model.modules() if isinstance(one, nn.Conv2d))

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((output.dtype, inputs[0].is_contiguous(memory_format=torch.channels_last)))

    first.register_forward_hook(note)
    fit(model, IMAGES, Schedule(epochs=1, batch_size=64, learning_rate=1e-3, precision=name), seed=0)
    assert seen == [(torch.bfloat16 if name == BFLOAT16 else torch.float32, name != FLOAT32)]


@pytest.mark.parametrize("name", PRECISIONS)
def test_weights_stay_float32_and_contiguous(name: str) -> None:
    for value in trained(name, epochs=1).state_dict().values():
        assert value.is_contiguous()
        assert value.dtype in (torch.float32, torch.int64)


def test_all_learn_alike() -> None:
    start = network().state_dict()
    expected = trained(FLOAT32, epochs=0.25).state_dict()  # one step
    for name in (CHANNELS_LAST, BFLOAT16):
        found = trained(name, epochs=0.25).state_dict()
        assert any(not torch.equal(found[one], start[one]) for one in found)
        for one, value in expected.items():
            if value.is_floating_point():
                assert torch.allclose(found[one], value, atol=2.1e-2)  # Adam's first step goes by the sign alone


def test_the_same_seed_gives_the_same_network() -> None:
    for name in PRECISIONS:
        one, other = trained(name, epochs=1).state_dict(), trained(name, epochs=1).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("multiplier", ["exact", "truncated-4"])
def test_codes_are_computed_exactly_in_all(multiplier: str) -> None:
    """Layers on codes give the same sums, with and without gradients; only gradients have operands of 16 bits."""
    config = approx.LayerApproximation(weight_bits=8, activation_bits=8, multiplier=multiplier)
    inputs = IMAGES.inputs(slice(0, 16))
    found: list[tuple[Tensor, Tensor]] = []
    for name in (FLOAT32, BFLOAT16):
        model = approx.approximate(network().eval(), config, calibration_data=inputs)
        with precision.autocast(name):
            with torch.no_grad():
                without = model(inputs)
            output = model(inputs)
        assert torch.equal(without, output)
        output.square().sum().backward()
        gradient = next(iter(model.parameters())).grad
        assert gradient is not None
        assert gradient.dtype == torch.float32
        found.append((output, gradient))
    (one, by_float), (other, by_bfloat) = found
    assert torch.equal(one, other)
    assert not torch.equal(by_float, by_bfloat)
    assert torch.allclose(by_float, by_bfloat, rtol=0.1, atol=0.02 * float(by_float.abs().max()))


def test_layers_that_are_not_on_codes_may_come_before_those_that_are() -> None:
    config = approx.LayerApproximation(weight_bits=8, activation_bits=8)
    mixed = approx.NetworkApproximation(default=config, overrides={"stem*": None})
    model = approx.approximate(network().eval(), mixed, calibration_data=IMAGES.inputs(slice(0, 16)))
    fit(model, IMAGES, Schedule(epochs=1, batch_size=16, learning_rate=1e-3, precision=BFLOAT16), seed=0)


def test_the_fastest_is_chosen_if_it_is_clearly_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    now = 0.0
    monkeypatch.setattr(time, "process_time", lambda: now)

    def chosen(**times: float) -> str:
        def step(name: str) -> None:
            nonlocal now
            now += times[name.replace("-", "_")]

        return precision.fastest(step)

    assert chosen(float32=1.0, float32_channels_last=0.7, bfloat16=0.5) == BFLOAT16
    assert chosen(float32=1.0, float32_channels_last=0.7, bfloat16=0.8) == CHANNELS_LAST
    assert chosen(float32=1.0, float32_channels_last=0.9, bfloat16=0.95) == FLOAT32
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert chosen(float32=1.0, float32_channels_last=0.7, bfloat16=0.1) == CHANNELS_LAST


def test_a_precision_that_a_network_cannot_compute_in_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)

    def only(*names: str) -> None:
        def step(name: str) -> None:
            if name not in names:
                raise RuntimeError("not implemented for 'BFloat16'")

        assert precision.fastest(step) in names

    only(FLOAT32)
    with pytest.raises(RuntimeError, match="not implemented"):
        only(BFLOAT16)
