"""Order and shapes of a network's layers, and the density of their inputs, found by running it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from approx.checks import check_model
from approx.errors import ArgumentError
from approx.inputs import Inputs, check_inputs, run, tensors_of
from approx.observation import observe
from approx.surgery import approx_layers, prepared, weight_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """A layer as the equivalent matrix product, for a single input.

    A transposed convolution is described as the convolution by which `approximate` computes it.

    Attributes:
        name: The layer's name in the network.
        positions: Output positions per channel.
        inner: Products summed into one output.
        outputs: Output channels.
        input_values: Values in the layer's input.
        groups: Number of independent products in the layer.
        kernel_height: Rows of a convolution's kernel; 1 for a linear layer.
        kernel_width: Columns of a convolution's kernel; 1 for a linear layer.
        output_height: Rows of a convolution's output; 1 for a linear layer.
        input_density: Share of the layer's inputs that were not zero.
    """

    name: str
    positions: int
    inner: int
    outputs: int
    input_values: int
    groups: int = 1
    kernel_height: int = 1
    kernel_width: int = 1
    output_height: int = 1
    input_density: float = 1.0


def trace(model: nn.Module, example_input: Inputs) -> list[LayerShape]:
    """Layer shapes in the order in which the layers run.

    Args:
        model: The network, before or after `approximate`; it is not changed. Its layers are those that `approximate`
            converted or would convert.
        example_input: A batch of network inputs of any size: a tensor or, for a network of several inputs, a tuple of
            tensors or a mapping from argument names to tensors. Shapes are those of a single input; densities are over
            the whole batch.

    Raises:
        ArgumentError: If the example has no dimension of images.
    """
    check_model("model", model)
    check_inputs("example_input", example_input)
    model = prepared(model)
    first, *_ = tensors_of(example_input)
    if not first.dim() or not len(first):
        raise ArgumentError(f"`example_input` must be a batch of inputs, got shape {tuple(first.shape)}")
    batch = len(first)
    shapes: list[LayerShape] = []

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            outputs = module.out_channels if isinstance(module, nn.ConvTranspose2d) else weight.shape[0]
            given = inputs[0] if inputs else named["input"]
            kernel = (1, 1, *weight.shape[2:])
            if batch > 1 and given.dim() == weight.dim() - 1:
                raise ArgumentError(
                    f"`example_input` must be a batch of inputs, but layer {name!r} gets a single one of shape "
                    f"{tuple(given.shape)}; give it a first dimension with example_input[None]"
                )
            shapes.append(
                LayerShape(
                    name=name,
                    positions=output.numel() // (outputs * batch),
                    inner=weight.numel() // outputs,
                    outputs=outputs,
                    input_values=given.numel() // batch,
                    groups=getattr(module, "groups", 1),
                    kernel_height=kernel[-2],
                    kernel_width=kernel[-1],
                    output_height=output.shape[-2] if weight.dim() == 4 else 1,
                    input_density=int(given.count_nonzero()) / given.numel(),
                )
            )

        return hook

    handles = [
        layer.register_forward_hook(note(name), with_kwargs=True)  # type: ignore[arg-type]
        for name, layer in [*weight_layers(model), *approx_layers(model)]
    ]
    try:
        with torch.no_grad():
            run(model, example_input)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def layer_order(model: nn.Module, example_input: Inputs) -> list[str]:
    """Names of the layers in the order in which they first run, before or after `approximate`.

    Args:
        model: The network; it is not changed.
        example_input: As for `trace`.
    """
    check_model("model", model)
    check_inputs("example_input", example_input)
    model = prepared(model)
    ran: dict[str, None] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda *_: ran.setdefault(name)

    for name, layer in [*weight_layers(model), *approx_layers(model)]:
        layer.register_forward_hook(note(name))
    with torch.no_grad():
        run(model, example_input)
    return list(ran)


def other_weights(model: nn.Module, example_input: Inputs) -> tuple[str, ...]:
    """Names of parameters that the network multiplies outside of the layers that `trace` finds.

    Args:
        model: The network, before or after `approximate`; it is not changed.
        example_input: As for `trace`.
    """
    check_model("model", model)
    check_inputs("example_input", example_input)
    model = prepared(model)
    layers = [name for name, _ in [*weight_layers(model), *approx_layers(model)]]
    return observe(model, layers, [], [example_input]).other_weights
