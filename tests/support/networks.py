"""Workloads that several tests use."""

from dataclasses import replace

from benchmarks.energy_validation import ALEXNET as ALEXNET
from benchmarks.energy_validation import LENET as LENET
from benchmarks.energy_validation import convolution as dense_convolution
from benchmarks.energy_validation import fully_connected as dense_layer
from energy import LayerWorkload, Workload


def fully_connected(name: str, inputs: int, outputs: int, nonzero: int | None = None) -> LayerWorkload:
    layer = dense_layer(name, inputs, outputs)
    return layer if nonzero is None else replace(layer, nonzero_weights=nonzero)


def convolution(
    name: str,
    channels: int,
    size: int,
    kernel: int,
    outputs: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    density: float = 1.0,
    nonzero: int | None = None,
) -> LayerWorkload:
    layer = dense_convolution(
        name, channels, size, kernel, outputs, stride=stride, padding=padding, groups=groups, density=density
    )
    return layer if nonzero is None else replace(layer, nonzero_weights=nonzero)


def workload(
    *layers: LayerWorkload,
    weight_bits: int = 8,
    activation_bits: int = 8,
    multiplier: str = "exact",
    weight_memory_v: float = 0.9,
    robust_bits: int = 0,
    batch: int = 1,
) -> Workload:
    return Workload(
        layers=layers,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        multiplier=multiplier,
        weight_memory_v=weight_memory_v,
        robust_bits=robust_bits,
        batch=batch,
    )
