"""The networks that are timed: LeNet-5 and ResNet-20, as published, and the largest of the digits task."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import approx


def lenet5() -> nn.Module:
    """LeCun et al., Proc. IEEE 1998, with ReLU and max pooling, on 28x28 images padded by 2."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.first_norm(self.first(inputs)))
        outputs: Tensor = self.second_norm(self.second(hidden))
        if self.more:  # the shortcut without weights
            inputs = F.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(outputs + inputs)


def resnet20() -> nn.Module:
    """He et al., CVPR 2016, section 4.2, on 32x32 images of three channels."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers.append(_Block(inputs, outputs, stride if block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def digits_network() -> nn.Module:
    """The baseline of the digits task."""
    largest = approx.Architecture(family="lenet", depth=approx.MAX_DEPTH, width=approx.MAX_WIDTH)
    return approx.build_network(largest, image_shape=(1, 8, 8), classes=10, seed=0)


def workloads() -> dict[str, tuple[nn.Module, Tensor]]:
    """Name -> network and a batch of random inputs."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "LeNet-5, batch 1000": (lenet5(), torch.rand(1000, 1, 28, 28, generator=generator)),
            "ResNet-20, batch 128": (resnet20(), torch.randn(128, 3, 32, 32, generator=generator)),
            "LeNet-5, batch 100": (lenet5(), torch.rand(100, 1, 28, 28, generator=generator)),
            "digits, batch 100": (digits_network(), torch.rand(100, 1, 8, 8, generator=generator)),
        }
