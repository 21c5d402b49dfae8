"""Times what `approx` does with whole networks: `make bench-approximation`."""

from __future__ import annotations

import sys
from functools import partial

import torch
from torch import Tensor, nn

import approx
from approx.arithmetic import native
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
        *_training(turns),
        within("approximate() on ResNet-20, 512 calibration images: time over 2 s", times, "convert", 2000),
        within("1 % bit errors in 10 million weights, drawn and read: time over 0.2 s", times, "inject", 200),
        compare("ResNet-20, 1000 images, on 10 chips: time over 10 forward passes", times, "chips", "forward", 1.05),
    ]


def _training(turns: int) -> list[Result]:
    """Time training steps of ResNet-20, batch 128, on one thread: as at first, and as searches make them."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (128, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = approx.LabelledImages(pixels, torch.arange(128) % 10, 255)
    network = resnet20()
    codes = approx.approximate(network.eval(), EIGHT_BITS, calibration_data=images.inputs(slice(0, 128)))
    library = native.load()

    def step(model: nn.Module, precision: str, build: str | None) -> None:
        if library is not None:
            library.choose_build(build)
        schedule = approx.Schedule(epochs=1, batch_size=128, learning_rate=1e-6, optimizer="sgd", precision=precision)
        approx.fit(model, images, schedule, seed=0)

    without_vnni = None if library is None else library.build.removesuffix("-vnni")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results = []
    for name, model, target in (("floating point", network, 0.55), ("integer codes", codes, 0.7)):
        times = timed(
            turns,
            float32=partial(step, model, "float32", without_vnni),
            bfloat16=partial(step, model, "bfloat16", None),
        )
        label = f"ResNet-20, batch 128, training step in {name}: time in bfloat16 over float32"
        results.append(compare(label, times, "bfloat16", "float32", target))
    torch.set_num_threads(threads)
    return results


if __name__ == "__main__":
    sys.exit(report(__doc__ or "", measure, {}))
