"""The operands of a trained network's multipliers: `python -m benchmarks.operands`.

Trains LeNet-5 on MNIST, converts it to 8-bit codes with the exact multiplier, and counts on held-out images how often
each activation code and each weight code is multiplied: padding counts as zeros, and a code counts once for every
product. Writes `energy/operand_histograms.csv`, from which `energy.gates` draws its vectors.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

import approx
from approx.quantization import quantize
from benchmarks.networks import LENET5
from search.evaluation import datasets
from search.images.places import ImagePlaces
from search.space.task import find_task

HISTOGRAMS = Path(__file__).parents[1] / "energy" / "operand_histograms.csv"
BITS = 8
IMAGES = 1000
EPOCHS = 3.0
SEED = 0


def main() -> None:
    """Train the network, count operands and write the histograms."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operands", description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="Folder of datasets.")
    parser.add_argument("--out", type=Path, default=HISTOGRAMS, help="CSV to write; its provenance goes beside it.")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    task = find_task("mnist")
    data = datasets.load(task, ImagePlaces.at(arguments.data_dir))
    train, held_out = (
        approx.LabelledImages(torch.tensor(images.images()), torch.tensor(images.labels), task.pixel_max)
        for images in (data.train, data.validation)
    )
    floating = approx.build_network(LENET5, image_shape=task.image_shape, classes=task.classes, seed=SEED)
    schedule = approx.Schedule(epochs=EPOCHS, batch_size=128, learning_rate=2e-3)
    approx.fit(floating, train, schedule, seed=SEED)
    exact = approx.LayerApproximation(weight_bits=BITS, activation_bits=BITS)
    model = approx.approximate(floating, exact, calibration_data=train.inputs(slice(0, 512)))
    accuracy = approx.accuracy(model, held_out)
    activations, weights = count_operands(model, held_out.inputs(slice(0, IMAGES)))

    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["code", "activation_count", "weight_count"])
        writer.writerows(zip(range(2**BITS), activations.tolist(), weights.tolist(), strict=True))
    provenance = {
        "network": "LeNet-5 (LeCun et al., Proc. IEEE 1998) with ReLU and max pooling",
        "dataset": "MNIST",
        "epochs": EPOCHS,
        "seed": SEED,
        "weight_bits": BITS,
        "activation_bits": BITS,
        "multiplier": "exact",
        "images": IMAGES,
        "accuracy_on_held_out_images": round(accuracy, 4),
        "torch": torch.__version__.split("+")[0],
        "codes": "activations unsigned; weights two's complement, read as unsigned",
        "counted": "products in which a code takes part, over all layers; zeros of padding included",
        "made_by": "python -m benchmarks.operands",
    }
    arguments.out.with_suffix(".provenance.yaml").write_text(yaml.safe_dump(provenance, sort_keys=False))
    print(f"wrote {arguments.out}: {int(activations.sum())} products, accuracy {accuracy:.2%}")  # noqa: T201


def count_operands(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Count how often each activation code and each weight code is multiplied: int64, shape (2**BITS,) each."""
    activations = torch.zeros(2**BITS, dtype=torch.int64)
    weights = torch.zeros(2**BITS, dtype=torch.int64)

    def count(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, approx.ApproxConv2d | approx.ApproxLinear)
        assert not layer.activation_signed
        codes = quantize(arguments[0], layer.activation_scale, bits=BITS, signed=False)
        weight_codes = layer.stored_codes().detach().to(torch.int64) & (2**BITS - 1)
        if isinstance(layer, approx.ApproxConv2d):
            padded = nn.functional.pad(codes, layer.pad)
            kernel = layer.weight.shape[-2:]
            codes = nn.functional.unfold(padded, kernel, layer.dilation, stride=layer.stride).transpose(1, 2)
        rows = codes.reshape(-1, codes.shape[-1]).to(torch.int64)
        # Every row is multiplied by the weights of every output.
        activations.add_(torch.bincount(rows.flatten(), minlength=2**BITS) * len(layer.weight))
        weights.add_(torch.bincount(weight_codes.flatten(), minlength=2**BITS) * len(rows))

    hooks = [layer.register_forward_pre_hook(count) for _, layer in approx.approx_layers(model)]
    with torch.no_grad():
        for first in range(0, len(images), 100):
            model(images[first : first + 100])
    for hook in hooks:
        hook.remove()
    return activations, weights


if __name__ == "__main__":
    main()
