"""Times what `approx` does with whole networks: `make bench-approximation`."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import approx
from benchmarks.measuring import Result, compare, report, timed, within
from benchmarks.networks import resnet20

CHIPS = 10
STORED_WEIGHTS = 10_000_000
EIGHT_BITS = approx.LayerApproximation(weight_bits=8, activation_bits=8)


def measure(turns: int) -> list[Result]:
    """Time conversion, fault injection, and one candidate over several chips."""
    generator = torch.Generator().manual_seed(0)
    network = resnet20().eval()
    images = torch.rand(1000, 3, 32, 32, generator=generator)
    model = approx.approximate(network, EIGHT_BITS, calibration_data=images)
    codes = torch.randint(-127, 128, (STORED_WEIGHTS,), generator=generator).to(torch.float32)
    memory = approx.FaultyMemory(bit_error_rate=0.01)
    approx.set_memory(model, weights=memory)

    def inject() -> Tensor:
        faults = approx.fault_map(memory, words=STORED_WEIGHTS, bits=8, seed=(0,))
        return approx.read_back(codes, faults, bits=8, signed=True, storage="twos-complement")

    @torch.no_grad()
    def forward_passes() -> None:
        approx.use_chip(model, None)
        for _ in range(CHIPS):
            model(images)

    @torch.no_grad()
    def over_chips() -> None:
        for chip in range(CHIPS):
            approx.use_chip(model, chip)
            model(images)

    times = timed(
        turns,
        convert=lambda: approx.approximate(network, EIGHT_BITS, calibration_data=images[:512]),
        inject=inject,
        forward=forward_passes,
        chips=over_chips,
    )
    return [
        within("approximate() on ResNet-20, 512 calibration images: time over 2 s", times, "convert", 2000),
        within("1 % bit errors in 10 million weights, drawn and read: time over 0.2 s", times, "inject", 200),
        compare("ResNet-20, 1000 images, on 10 chips: time over 10 forward passes", times, "chips", "forward", 1.05),
    ]


if __name__ == "__main__":
    sys.exit(report(__doc__ or "", measure, {}))
