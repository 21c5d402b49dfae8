"""Layers that compute on integer codes as the hardware would: quantise, prune, store, read back, multiply."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from approx.catalog import find_multiplier
from approx.memory import read_back
from approx.multiplier import Multiplier
from approx.native import never_changes
from approx.ops import quantized_conv2d, quantized_linear
from approx.quantization import calibrate_scale, quantize, straight_through


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerApproximation:
    """How a layer computes.

    Attributes:
        weight_bits: Width of weight codes, 2 to 8.
        activation_bits: Width of activation codes, 2 to 8.
        multiplier: A name that `approx.find_multiplier` knows.
        gradient: How training sees the multiplier, `straight-through` or `difference`; see `approx.quantized_conv2d`.
    """

    weight_bits: int
    activation_bits: int
    multiplier: str
    gradient: str = "straight-through"


class ApproxLayer(nn.Module):
    """What the approximate layers share: from trained weights to the codes that reach the multiplier. Abstract.

    Attributes:
        weight: The trained weight, real-valued; gradients reach it straight through.
        bias: Added after the sum, at full precision; may be None.
        mask: bool, shape of weight: False where pruned. All True when dense.
        weight_scale: Shape (outputs,).
        activation_scale: Scalar.
        faults: int32, shape of weight: stored bits that are read inverted. All zero on a perfect chip.
    """

    weight: nn.Parameter
    mask: Tensor
    weight_scale: Tensor
    activation_scale: Tensor
    faults: Tensor

    def __init__(
        self,
        layer: nn.Linear | nn.Conv2d,
        config: LayerApproximation,
        *,
        mask: Tensor,
        calibration_inputs: Tensor,
    ) -> None:
        super().__init__()
        self.config = config
        self.activation_signed = bool(calibration_inputs.min() < 0)
        self.multiplier: Multiplier = find_multiplier(
            config.multiplier,
            weight_bits=config.weight_bits,
            activation_bits=config.activation_bits,
            activation_signed=self.activation_signed,
        )
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.register_buffer("mask", mask.clone())
        with torch.no_grad():
            weight_scale = calibrate_scale(
                (self.weight * mask).flatten(1),
                bits=config.weight_bits,
                signed=True,
                constrain=self.multiplier.constrain,
            )
            activation_scale = calibrate_scale(
                calibration_inputs.reshape(1, -1),
                bits=config.activation_bits,
                signed=self.activation_signed,
            )
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("activation_scale", activation_scale[0])
        self.register_buffer("faults", torch.zeros(mask.shape, dtype=torch.int32), persistent=False)
        self._kept_codes: _KeptCodes | None = None

    def stored_codes(self) -> Tensor:
        """The weight codes written to the memory: exact integers, shape of weight, straight-through gradient."""
        scale = self.weight_scale.reshape(-1, *[1] * (self.weight.dim() - 1))
        codes = quantize(self.weight * self.mask, scale, bits=self.config.weight_bits, signed=True)
        return straight_through(codes, self.multiplier.constrain(codes.detach()))

    def read_codes(self) -> Tensor:
        """The weight codes that come back from the memory.

        Without gradients they are kept until the weight, its mask, its scale or the faults change.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._read_codes()
        depends_on = (self.weight, self.mask, self.weight_scale, self.faults)
        if self._kept_codes is None or not self._kept_codes.are_of(depends_on):
            self._kept_codes = _KeptCodes(self._read_codes(), depends_on)
        return self._kept_codes.codes

    def _read_codes(self) -> Tensor:
        codes = self.stored_codes()
        read = read_back(codes.detach(), self.faults, self.config.weight_bits)
        return straight_through(codes, read)

    def output_scale(self) -> Tensor:
        """What a sum of products of codes stands for: shape (outputs,)."""
        return self.weight_scale * self.activation_scale


class _KeptCodes:
    """Codes, and copies of the tensors that they were computed from.

    Tensors count their changes, but not those that fused optimisers make (torch 2.13), so contents are compared. That
    costs less than computing the codes again.
    """

    def __init__(self, codes: Tensor, depends_on: tuple[Tensor, ...]) -> None:
        self.codes = never_changes(codes)
        self._copies = tuple(tensor.detach().clone() for tensor in depends_on)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # neither copied nor saved with the layer

    def are_of(self, tensors: tuple[Tensor, ...]) -> bool:
        return all(torch.equal(copy, tensor) for copy, tensor in zip(self._copies, tensors, strict=True))


class ApproxLinear(ApproxLayer):
    """`nn.Linear` with an approximate multiplier and memory. Input (..., K), output (..., N)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer."""
        return quantized_linear(
            inputs,
            self.read_codes(),
            self.multiplier,
            input_scale=self.activation_scale,
            output_scale=self.output_scale(),
            bias=self.bias,
            gradient=self.config.gradient,
        )


class ApproxConv2d(ApproxLayer):
    """`nn.Conv2d` with an approximate multiplier and memory; zero padding, given in numbers."""

    def __init__(
        self,
        layer: nn.Conv2d,
        config: LayerApproximation,
        *,
        mask: Tensor,
        calibration_inputs: Tensor,
    ) -> None:
        super().__init__(layer, config, mask=mask, calibration_inputs=calibration_inputs)
        assert not isinstance(layer.padding, str)
        self.stride = (layer.stride[0], layer.stride[1])
        self.padding = (layer.padding[0], layer.padding[1])
        self.dilation = (layer.dilation[0], layer.dilation[1])
        self.groups = layer.groups

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer."""
        return quantized_conv2d(
            inputs,
            self.read_codes(),
            self.multiplier,
            input_scale=self.activation_scale,
            output_scale=self.output_scale(),
            bias=self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            gradient=self.config.gradient,
        )
