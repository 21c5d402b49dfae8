from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import approx
from approx import ArgumentError, FaultyMemory, LayerApproximation, SavedModelError
from approx.packing import Frame, packed, unpacked

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
EIGHT = LayerApproximation(weight_bits=8, activation_bits=8)


class Unusual(nn.Module):
    """Layers that share a weight, one that does not run, a constant, and a buffer that is no state."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.left, self.right, self.idle = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(3, 3)
        self.right.weight = self.left.weight
        self.classify = nn.Linear(64, 3)
        self.shift: Tensor
        self.register_buffer("shift", torch.full((16,), 0.5), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm(self.convolve(images)).relu().flatten(2) + self.shift
        scores: Tensor = self.classify(self.right(self.left(hidden).relu()).flatten(1)) * torch.tensor([1.0, 2.0, 3.0])
        return scores


def converted(config: LayerApproximation = EIGHT, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Unusual().eval()
    weights = {name: layer.weight for name, layer in approx.weight_layers(network)}
    model = approx.approximate(
        network, config, calibration_data=IMAGES, masks=approx.magnitude_masks(weights, 0.4 if seed else 0.1)
    )
    approx.set_memory(model, weights=FaultyMemory(bit_error_rate=0.05, robust_bits=1))
    return model


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    """Check that models compute the same on any chip, and that one has what the other needs."""
    tensors = {**dict(one.named_buffers()), **one.state_dict()}
    for name, value in other.state_dict().items():
        assert name.startswith("constants.") or torch.equal(value, tensors[name]), name
    for chip in (None, 3):
        outputs = []
        for model in (one, other):
            approx.use_chip(model, chip)
            with torch.no_grad():
                outputs.append(model(IMAGES))
        assert torch.equal(*outputs)


@pytest.mark.slow
def test_a_model_comes_back_to_the_bit_in_the_frame_of_another_conversion() -> None:
    frame = Frame.of(converted(), IMAGES[:2])
    for config in (EIGHT, replace(EIGHT, weight_bits=5, multiplier="truncated-4"), replace(EIGHT, multiplier="asm-1")):
        model = converted(config, seed=1)
        alone, without = packed(model, frame), packed(model, None)
        assert not any("idle" in name for name in alone)
        for back in (unpacked(alone), unpacked(without, frame)):
            assert_equal(model, back)
            assert back.get_parameter("left.weight") is back.get_parameter("right.weight")
            assert [layer.config for _, layer in approx.approx_layers(back)] == [config] * 4


@pytest.mark.slow
def test_a_model_without_its_frame_is_refused() -> None:
    model = converted()
    with pytest.raises(SavedModelError, match="packed without the frame of its network; give that as `frame`"):
        unpacked(packed(model, None))


def test_what_cannot_be_traced_has_no_frame() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 2)

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.layer(images.flatten(1) if images.sum() > 0 else -images.flatten(1))
            return found

    model = approx.approximate(Branching(), EIGHT, calibration_data=IMAGES)
    with pytest.raises(ArgumentError, match="cannot be traced for batches of any size"):
        Frame.of(model, IMAGES[:2])
