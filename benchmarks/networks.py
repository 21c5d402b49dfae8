"""The networks of benchmarks: LeNet-5 and ResNet-20, as published, and the largest of the digits task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import approx
from search.space.task import find_task

LENET5 = approx.Architecture(family="lenet", depth=3, width=6)
RESNET20 = approx.Architecture(family="resnet", depth=3, width=16)


def lenet5() -> nn.Module:
    """Build LeNet-5 (LeCun et al., Proc. IEEE 1998), with ReLU and max pooling, on 28x28 images padded by 2."""
    return approx.build_network(LENET5, image_shape=(1, 28, 28), classes=10, seed=0)


def resnet20() -> nn.Module:
    """Build ResNet-20 (He et al., CVPR 2016, section 4.2), on 32x32 images of three channels."""
    return approx.build_network(RESNET20, image_shape=(3, 32, 32), classes=10, seed=0)


def digits_network() -> nn.Module:
    """Build the baseline of the digits task."""
    baseline = find_task("digits").space.baseline()
    largest = approx.Architecture(family=baseline.family, depth=baseline.depth, width=baseline.width)
    return approx.build_network(largest, image_shape=(1, 8, 8), classes=10, seed=0)


def workloads() -> dict[str, tuple[nn.Module, Tensor]]:
    """Return name -> network and a batch of random inputs."""
    generator = torch.Generator().manual_seed(0)
    return {
        "LeNet-5, batch 1000": (lenet5(), torch.rand(1000, 1, 28, 28, generator=generator)),
        "ResNet-20, batch 128": (resnet20(), torch.randn(128, 3, 32, 32, generator=generator)),
        "LeNet-5, batch 100": (lenet5(), torch.rand(100, 1, 28, 28, generator=generator)),
        "digits, batch 100": (digits_network(), torch.rand(100, 1, 8, 8, generator=generator)),
    }
