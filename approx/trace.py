"""The shapes of a network's layers, found by running it once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from approx.convert import weight_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """One Conv2d or Linear layer as the matrix product it amounts to, for a single input.

    Attributes:
        name: The layer's name in the network.
        positions: Output positions per channel.
        inner: Products summed into one output.
        outputs: Output channels.
        input_values: Values in the layer's input.
    """

    name: str
    positions: int
    inner: int
    outputs: int
    input_values: int


def trace(model: nn.Module, example_input: Tensor) -> list[LayerShape]:
    """Layer shapes in the order in which the layers run.

    Args:
        model: The network, not converted.
        example_input: A batch of one.
    """
    shapes: list[LayerShape] = []

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            shapes.append(
                LayerShape(
                    name=name,
                    positions=output.numel() // weight.shape[0],
                    inner=weight[0].numel(),
                    outputs=weight.shape[0],
                    input_values=inputs[0].numel(),
                )
            )

        return hook

    handles = [
        layer.register_forward_hook(note(name))  # type: ignore[arg-type]
        for name, layer in weight_layers(model)
    ]
    with torch.no_grad():
        model(example_input)
    for handle in handles:
        handle.remove()
    return shapes
