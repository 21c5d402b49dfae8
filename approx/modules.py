"""Layers that compute on integer codes as the hardware would: quantise, prune, store, read back, multiply."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx.arithmetic.ops import quantized_conv2d, quantized_linear
from approx.config import LayerApproximation
from approx.errors import ArgumentError
from approx.faults import FaultMap, fault_map, memory_seed
from approx.layer_memory import KeptCodes, LayerOnChip
from approx.multipliers.catalog import find_multiplier
from approx.multipliers.multiplier import Multiplier
from approx.quantization import quantize, straight_through


class ApproxLayer(nn.Module):
    """What the approximate layers share: from trained weights to the codes that reach the multiplier. Abstract.

    Attributes:
        config: How it computes.
        activation_signed: Whether activation codes are signed.
        multiplier: What multiplies.
        groups: Channels and outputs are cut into so many independent groups.
        weight: The trained weight, real-valued, shape (outputs, ...); gradients reach it straight through.
        bias: Added after the sum, at full precision; may be None.
        mask: bool, shape of weight: False where pruned. All True when dense.
        weight_scale: Shape (outputs,), as calibrated.
        activation_scale: Scalar, as calibrated.
        log_weight_scale: What training made of the weight scale, as the logarithm of a factor: shape (outputs,), or
            (1,) where they share one; None unless scales are learned.
        log_activation_scale: Likewise, a scalar.
        weight_memory: What the memory of the weights does; None is perfect.
        activation_memory: What that of the input does.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    mask: Tensor
    weight_scale: Tensor
    activation_scale: Tensor
    log_weight_scale: nn.Parameter | None
    log_activation_scale: nn.Parameter | None
    groups: int = 1
    _dims_of_one: int  # dimensions of an input that is not a batch

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        config: LayerApproximation,
        *,
        activation_signed: bool,
        mask: Tensor | None = None,
        multiplier: Multiplier | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.activation_signed = activation_signed
        self.multiplier: Multiplier = multiplier or find_multiplier(
            config.multiplier,
            weight_bits=config.weight_bits,
            activation_bits=config.activation_bits,
            activation_signed=activation_signed,
        )
        self.weight = _as_parameter(weight)
        self.bias = None if bias is None else _as_parameter(bias)
        outputs = len(weight)
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool) if mask is None else mask.clone())
        self.register_buffer("weight_scale", torch.ones(outputs, device=weight.device))
        self.register_buffer("activation_scale", torch.ones((), device=weight.device))
        self.log_weight_scale = self.log_activation_scale = None
        if config.learned_scales:
            own = outputs if config.granularity == "channel" else 1
            self.log_weight_scale = nn.Parameter(torch.zeros(own, device=weight.device))
            self.log_activation_scale = nn.Parameter(torch.zeros((), device=weight.device))
        self.weight_memory = config.weight_memory
        self.activation_memory = config.activation_memory
        self._chip: LayerOnChip | None = None
        self._kept_codes: KeptCodes | None = None

    @property
    def learned_weight_scale(self) -> Tensor:
        """The weight scale in use: shape (outputs,)."""
        return self.weight_scale if self.log_weight_scale is None else self.weight_scale * self.log_weight_scale.exp()

    @property
    def learned_activation_scale(self) -> Tensor:
        """The activation scale in use: a scalar."""
        if self.log_activation_scale is None:
            return self.activation_scale
        return self.activation_scale * self.log_activation_scale.exp()

    def output_scale(self) -> Tensor:
        """What a sum of products of codes stands for: shape (outputs,)."""
        return self.learned_weight_scale * self.learned_activation_scale

    def put_on_chip(self, name: str, chip_seed: int | None) -> None:
        """Keep weights and activations in the memories of a chip.

        Args:
            name: The layer's name: what tells its memories from others on the chip.
            chip_seed: Names the chip; None is one whose memories are perfect.
        """
        self._chip = None if chip_seed is None else LayerOnChip(self, name, chip_seed)

    def weight_faults(self, name: str, chip_seed: int) -> FaultMap | None:
        """The failed cells of the memory of the weights on a chip, whatever is pruned; None if it is perfect.

        Args:
            name: As for `put_on_chip`.
            chip_seed: Likewise.
        """
        if self.weight_memory is None:
            return None
        return fault_map(
            self.weight_memory,
            words=self.weight.numel(),
            bits=self.config.weight_bits,
            seed=memory_seed(chip_seed, f"weights of {name}"),
        )

    def stored_codes(self) -> Tensor:
        """The weight codes written to the memory: exact integers, shape of weight, straight-through gradient."""
        scale = self.learned_weight_scale.reshape(-1, *[1] * (self.weight.dim() - 1))
        codes = quantize(self.weight * self.mask, scale, bits=self.config.weight_bits, signed=True)
        if not self.multiplier.constrains_weights:
            return codes
        return straight_through(codes, self.multiplier.constrain(codes.detach()))

    def read_codes(self) -> Tensor:
        """The weight codes that come back from the memory.

        Without gradients they are kept until the weight, its mask, its scale or the chip change.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            codes = self.stored_codes()
            if self._chip is None:
                return codes
            return straight_through(codes, self._chip.read_weights(codes.detach(), self.mask))
        depends_on = (self.weight, self.mask, self.learned_weight_scale)
        if self._kept_codes is None or not self._kept_codes.are_of(depends_on):
            self._kept_codes = KeptCodes(self.stored_codes(), depends_on)
        return self._kept_codes.read(self._chip, self.mask)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer."""
        return self._computed(input, self._multiply)

    def _computed(self, inputs: Tensor, multiply: Callable[..., Tensor]) -> Tensor:
        if inputs.dim() == self._dims_of_one:
            return self._computed(inputs[None], multiply)[0]
        codes, bias = self.read_codes(), self.bias
        # Where scales learn, quantising and rescaling are steps of their own, whose gradients are those of LSQ.
        learning = self.log_weight_scale is not None and torch.is_grad_enabled()
        input_scale, output_scale = self.learned_activation_scale, self.output_scale()
        full_range = self._chip is not None and self._chip.strikes_activations
        if full_range or learning:
            inputs = inputs / input_scale
            input_scale = torch.ones_like(self.activation_scale)
        if full_range:
            assert self._chip is not None
            exact = quantize(inputs, input_scale, bits=self.config.activation_bits, signed=self.activation_signed)
            inputs = straight_through(exact, self._chip.read_activations(exact.detach()))
        if not learning:
            return multiply(inputs, codes, input_scale, output_scale, bias, full_range)
        sums = multiply(inputs, codes, input_scale, torch.ones_like(output_scale), None, full_range)
        values = self._along_outputs(output_scale) * sums
        return values if bias is None else values + self._along_outputs(bias)

    @abstractmethod
    def _multiply(
        self,
        inputs: Tensor,
        codes: Tensor,
        input_scale: Tensor,
        output_scale: Tensor,
        bias: Tensor | None,
        full_range: bool,
    ) -> Tensor:
        """Quantise the inputs, multiply them by the weight codes, add, rescale."""

    @abstractmethod
    def _along_outputs(self, per_output: Tensor) -> Tensor:
        """A vector with a number for each output, in a shape that broadcasts to the layer's output."""


class ApproxLinear(ApproxLayer):
    """`nn.Linear` with an approximate multiplier and memory. Input (..., K), output (..., N)."""

    _dims_of_one = 1

    def _multiply(
        self,
        inputs: Tensor,
        codes: Tensor,
        input_scale: Tensor,
        output_scale: Tensor,
        bias: Tensor | None,
        full_range: bool,
    ) -> Tensor:
        return quantized_linear(
            inputs,
            codes,
            self.multiplier,
            input_scale=input_scale,
            output_scale=output_scale,
            bias=bias,
            gradient=self.config.gradient,
            full_range=full_range,
        )

    def _along_outputs(self, per_output: Tensor) -> Tensor:
        return per_output


class ApproxConv2d(ApproxLayer):
    """`nn.Conv2d` with an approximate multiplier and memory.

    Attributes:
        pad: How many values are added left, right, above and below before the convolution.
        padding_mode: What these are, as in `nn.Conv2d`.
    """

    _dims_of_one = 3

    def __init__(
        self,
        layer: nn.Conv2d,
        config: LayerApproximation,
        *,
        activation_signed: bool,
        mask: Tensor | None = None,
        multiplier: Multiplier | None = None,
    ) -> None:
        super().__init__(
            layer.weight, layer.bias, config, activation_signed=activation_signed, mask=mask, multiplier=multiplier
        )
        self.stride = (layer.stride[0], layer.stride[1])
        self.dilation = (layer.dilation[0], layer.dilation[1])
        self.groups = layer.groups
        self.padding_mode = layer.padding_mode
        (above, below), (left, right) = (_padding(layer, axis) for axis in (0, 1))
        self.pad = (left, right, above, below)

    def _multiply(
        self,
        inputs: Tensor,
        codes: Tensor,
        input_scale: Tensor,
        output_scale: Tensor,
        bias: Tensor | None,
        full_range: bool,
    ) -> Tensor:
        left, right, above, below = self.pad
        padding = (above, left)
        if self.padding_mode != "zeros":
            inputs, padding = F.pad(inputs, self.pad, mode=self.padding_mode), (0, 0)
        elif (above, left) != (below, right):
            inputs, padding = F.pad(inputs, self.pad), (0, 0)
        return quantized_conv2d(
            inputs,
            codes,
            self.multiplier,
            input_scale=input_scale,
            output_scale=output_scale,
            bias=bias,
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
            gradient=self.config.gradient,
            full_range=full_range,
        )

    def _along_outputs(self, per_output: Tensor) -> Tensor:
        return per_output[:, None, None]


class ApproxConvTranspose2d(ApproxLayer):
    """`nn.ConvTranspose2d` with an approximate multiplier and memory.

    It is computed as the convolution that it amounts to: of the input with zeros between its values, by the mirrored
    kernel. These zeros are multiplied like any other activation. `weight` is that of this convolution, shape (outputs,
    inputs / groups, KH, KW); see `as_convolution`.
    """

    _dims_of_one = 3

    def __init__(
        self,
        layer: nn.ConvTranspose2d,
        config: LayerApproximation,
        *,
        activation_signed: bool,
        mask: Tensor | None = None,
        multiplier: Multiplier | None = None,
    ) -> None:
        super().__init__(
            nn.Parameter(as_convolution(layer.weight.detach(), layer.groups), layer.weight.requires_grad),
            layer.bias,
            config,
            activation_signed=activation_signed,
            mask=None if mask is None else as_convolution(mask, layer.groups),
            multiplier=multiplier,
        )
        self.upsampling = (layer.stride[0], layer.stride[1])
        self.dilation = (layer.dilation[0], layer.dilation[1])
        self.groups = layer.groups
        (above, below), (left, right) = (_transposed_padding(layer, axis) for axis in (0, 1))
        self.pad = (left, right, above, below)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Apply the layer.

        Args:
            input: Shape (images, channels, height, width), or without images.
            output_size: Height and width of the output where not the layer's own, as for `nn.ConvTranspose2d`.

        Raises:
            ArgumentError: If the output cannot have this size.
        """
        if output_size is None:
            return super().forward(input)
        return self._computed(input, partial(self._multiply, pad=self._pad_to(output_size, input)))

    def _pad_to(self, output_size: Sequence[int], inputs: Tensor) -> tuple[int, int, int, int]:
        pad: list[int] = []
        for axis in (-1, -2):  # from the last, as in `F.pad`
            before, step = self.pad[-2 * axis - 2], self.upsampling[axis]
            least = (
                (inputs.shape[axis] - 1) * step + 1 + 2 * before - self.dilation[axis] * (self.weight.shape[axis] - 1)
            )
            if not 0 <= output_size[axis] - least < step:
                raise ArgumentError(
                    f"output_size is {tuple(output_size)}, but for an input of shape {tuple(inputs.shape)} dimension "
                    f"{axis} can be {least} to {least + step - 1}"
                )
            pad += [before, before + output_size[axis] - least]
        return pad[0], pad[1], pad[2], pad[3]

    def _multiply(
        self,
        inputs: Tensor,
        codes: Tensor,
        input_scale: Tensor,
        output_scale: Tensor,
        bias: Tensor | None,
        full_range: bool,
        pad: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        rows, columns = self.upsampling
        height, width = inputs.shape[2:]
        spread = inputs.new_zeros(*inputs.shape[:2], (height - 1) * rows + 1, (width - 1) * columns + 1)
        spread[:, :, ::rows, ::columns] = inputs
        return quantized_conv2d(
            F.pad(spread, pad or self.pad),
            codes,
            self.multiplier,
            input_scale=input_scale,
            output_scale=output_scale,
            bias=bias,
            dilation=self.dilation,
            groups=self.groups,
            gradient=self.config.gradient,
            full_range=full_range,
        )

    def _along_outputs(self, per_output: Tensor) -> Tensor:
        return per_output[:, None, None]


def as_convolution(weight: Tensor, groups: int) -> Tensor:
    """The weight of a transposed convolution as that of the convolution that it amounts to.

    Args:
        weight: Shape (inputs, outputs / groups, KH, KW), as in `nn.ConvTranspose2d`.
        groups: Of the layer.

    Returns:
        Shape (outputs, inputs / groups, KH, KW).
    """
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    return grouped.flatten(0, 1).flip(2, 3).contiguous()


def _as_parameter(tensor: Tensor) -> nn.Parameter:
    """The parameter itself, which other layers may share; of a parametrised layer, what it amounts to."""
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach().clone())


def _padding(layer: nn.Conv2d, axis: int) -> tuple[int, int]:
    """Values added before and after along an axis; `same` adds one more after where the sum is odd, as torch does."""
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        both = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        return both // 2, both - both // 2
    amount = int(layer.padding[axis])
    return amount, amount


def _transposed_padding(layer: nn.ConvTranspose2d, axis: int) -> tuple[int, int]:
    """Zeros around the spread input; negative where some of it is cut off."""
    before = layer.dilation[axis] * (layer.kernel_size[axis] - 1) - int(layer.padding[axis])
    return before, before + layer.output_padding[axis]
