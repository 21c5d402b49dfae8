"""Layers that compute on integer codes as the hardware would: quantise, prune, store, read back, multiply."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from approx.catalog import find_multiplier
from approx.memory import read_back
from approx.multiplier import Multiplier
from approx.ops import approx_conv2d, approx_linear
from approx.quantization import calibrate_scale, quantize, straight_through


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerApproximation:
    """How a layer computes.

    Attributes:
        weight_bits: Width of weight codes, 2 to 8.
        activation_bits: Width of activation codes, 2 to 8.
        multiplier: A name from `approx.multiplier_names()`.
    """

    weight_bits: int
    activation_bits: int
    multiplier: str


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

    def stored_codes(self) -> Tensor:
        """The weight codes written to the memory: exact integers, shape of weight, straight-through gradient."""
        scale = self.weight_scale.reshape(-1, *[1] * (self.weight.dim() - 1))
        codes = quantize(self.weight * self.mask, scale, bits=self.config.weight_bits, signed=True)
        return straight_through(codes, self.multiplier.constrain(codes.detach()))

    def read_codes(self) -> Tensor:
        """The weight codes that come back from the memory."""
        codes = self.stored_codes()
        read = read_back(codes.detach(), self.faults, self.config.weight_bits)
        return straight_through(codes, read)

    def activation_codes(self, inputs: Tensor) -> Tensor:
        """The codes of a layer input."""
        return quantize(
            inputs,
            self.activation_scale,
            bits=self.config.activation_bits,
            signed=self.activation_signed,
        )

    def rescale(self, sums: Tensor, channel_dim: int) -> Tensor:
        """Sums of products of codes as real values in float32, with the bias added."""
        shape = [1] * sums.dim()
        shape[channel_dim] = -1
        # In the type of the sums, which may be float64: rounding to float32 comes last.
        scale = (self.weight_scale * self.activation_scale).reshape(shape)
        out = sums * scale
        if self.bias is not None:
            out = out + self.bias.reshape(shape)
        return out.to(torch.float32)


class ApproxLinear(ApproxLayer):
    """`nn.Linear` with an approximate multiplier and memory. Input (..., K), output (..., N)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer."""
        codes = self.activation_codes(inputs)
        return self.rescale(approx_linear(codes, self.read_codes(), self.multiplier), -1)


class ApproxConv2d(ApproxLayer):
    """`nn.Conv2d` (no dilation, no groups) with an approximate multiplier and memory."""

    def __init__(
        self,
        layer: nn.Conv2d,
        config: LayerApproximation,
        *,
        mask: Tensor,
        calibration_inputs: Tensor,
    ) -> None:
        super().__init__(layer, config, mask=mask, calibration_inputs=calibration_inputs)
        self.stride = (layer.stride[0], layer.stride[1])
        assert not isinstance(layer.padding, str)
        self.padding = (layer.padding[0], layer.padding[1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer."""
        sums = approx_conv2d(
            self.activation_codes(inputs),
            self.read_codes(),
            self.multiplier,
            stride=self.stride,
            padding=self.padding,
        )
        return self.rescale(sums, 1)
