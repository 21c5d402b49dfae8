"""The approximate forms of torch's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from approx.arithmetic.ops import quantized_conv2d, quantized_linear
from approx.config import LayerApproximation
from approx.errors import ArgumentError
from approx.layer import ApproxLayer
from approx.multipliers.multiplier import Multiplier


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
            self._used_multiplier,
            input_scale=input_scale,
            output_scale=output_scale,
            bias=bias,
            gradient=self.config.gradient,
            gradient_window=self.config.gradient_window,
            full_range=full_range,
            partial_sums=self.config.partial_sums,
            overflows=self.overflows,
        )

    def _multiply_exactly(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight * self.mask, self.bias)

    def _along_outputs(self, per_output: Tensor) -> Tensor:
        return per_output

    def _shape_repr(self) -> str:
        outputs, inputs = self.weight.shape
        return f"in_features={inputs}, out_features={outputs}"


class ApproxConv2d(ApproxLayer):
    """`nn.Conv2d` with an approximate multiplier and memory.

    Attributes:
        pad: Number of values added left, right, above and below before the convolution.
        padding_mode: The values added, as in `nn.Conv2d`.
    """

    _dims_of_one = 3

    def __init__(
        self,
        layer: nn.Conv2d,
        config: LayerApproximation,
        *,
        activation_signed: bool,
        multiplier: Multiplier,
        mask: Tensor | None = None,
    ) -> None:
        super().__init__(
            layer.weight, layer.bias, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask
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
        inputs, padding = self._padded(inputs)
        return quantized_conv2d(
            inputs,
            codes,
            self._used_multiplier,
            input_scale=input_scale,
            output_scale=output_scale,
            bias=bias,
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
            gradient=self.config.gradient,
            gradient_window=self.config.gradient_window,
            full_range=full_range,
            partial_sums=self.config.partial_sums,
            overflows=self.overflows,
        )

    def _multiply_exactly(self, inputs: Tensor) -> Tensor:
        inputs, padding = self._padded(inputs)
        weight = self.weight * self.mask
        return F.conv2d(inputs, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _padded(self, inputs: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The inputs and how many zeros are to be added on both sides of their rows and columns."""
        left, right, above, below = self.pad
        if self.padding_mode != "zeros":
            return F.pad(inputs, self.pad, mode=self.padding_mode), (0, 0)
        if (above, left) != (below, right):
            return F.pad(inputs, self.pad), (0, 0)
        return inputs, (above, left)

    def _along_outputs(self, per_output: Tensor) -> Tensor:
        return per_output[:, None, None]

    def _shape_repr(self) -> str:
        return _convolution_repr(self, self.stride, self.dilation, self.pad)


class ApproxConv1d(ApproxLayer):
    """`nn.Conv1d` with an approximate multiplier and memory, computed as a Conv2d of one row.

    Attributes:
        pad: Number of values added left and right before the convolution.
        padding_mode: The values added, as in `nn.Conv1d`.
    """

    _dims_of_one = 2

    def __init__(
        self,
        layer: nn.Conv1d,
        config: LayerApproximation,
        *,
        activation_signed: bool,
        multiplier: Multiplier,
        mask: Tensor | None = None,
    ) -> None:
        super().__init__(
            layer.weight, layer.bias, config, activation_signed=activation_signed, multiplier=multiplier, mask=mask
        )
        self.stride = (layer.stride[0],)
        self.dilation = (layer.dilation[0],)
        self.groups = layer.groups
        self.padding_mode = layer.padding_mode
        self.pad = _padding(layer, 0)

    def _multiply(
        self,
        inputs: Tensor,
        codes: Tensor,
        input_scale: Tensor,
        output_scale: Tensor,
        bias: Tensor | None,
        full_range: bool,
    ) -> Tensor:
        inputs, padding = self._padded(inputs)
        return quantized_conv2d(
            inputs.unsqueeze(-2),
            codes.unsqueeze(-2),
            self._used_multiplier,
            input_scale=input_scale,
            output_scale=output_scale,
            bias=bias,
            stride=(1, *self.stride),
            padding=(0, padding),
            dilation=(1, *self.dilation),
            groups=self.groups,
            gradient=self.config.gradient,
            gradient_window=self.config.gradient_window,
            full_range=full_range,
            partial_sums=self.config.partial_sums,
            overflows=self.overflows,
        ).squeeze(-2)

    def _multiply_exactly(self, inputs: Tensor) -> Tensor:
        inputs, padding = self._padded(inputs)
        weight = self.weight * self.mask
        return F.conv1d(inputs, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _padded(self, inputs: Tensor) -> tuple[Tensor, int]:
        """The inputs and how many zeros are to be added on both sides of them."""
        left, right = self.pad
        if self.padding_mode != "zeros":
            return F.pad(inputs, self.pad, mode=self.padding_mode), 0
        if left != right:
            return F.pad(inputs, self.pad), 0
        return inputs, left

    def _along_outputs(self, per_output: Tensor) -> Tensor:
        return per_output[:, None]

    def _shape_repr(self) -> str:
        return _convolution_repr(self, self.stride, self.dilation, self.pad)


class ApproxConvTranspose2d(ApproxLayer):
    """`nn.ConvTranspose2d` with an approximate multiplier and memory.

    It is computed as the equivalent convolution: the input, with zeros inserted between its values, is convolved with
    the mirrored kernel. These zeros are multiplied like any other activation. `weight` is the weight of that
    convolution, shape (outputs, inputs / groups, KH, KW); see `as_convolution`.
    """

    _dims_of_one = 3

    def __init__(
        self,
        layer: nn.ConvTranspose2d,
        config: LayerApproximation,
        *,
        activation_signed: bool,
        multiplier: Multiplier,
        mask: Tensor | None = None,
    ) -> None:
        super().__init__(
            nn.Parameter(as_convolution(layer.weight.detach(), layer.groups), layer.weight.requires_grad),
            layer.bias,
            config,
            activation_signed=activation_signed,
            multiplier=multiplier,
            mask=None if mask is None else as_convolution(mask, layer.groups),
        )
        self.upsampling = (layer.stride[0], layer.stride[1])
        self.dilation = (layer.dilation[0], layer.dilation[1])
        self.groups = layer.groups
        (above, below), (left, right) = (_transposed_padding(layer, axis) for axis in (0, 1))
        self.pad = (left, right, above, below)

    def forward(
        self,
        input: Tensor,
        output_size: Sequence[int] | None = None,
        *,
        pad: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        """Apply the layer.

        Args:
            input: Shape (images, channels, height, width), or without images.
            output_size: Height and width of the output, as for `nn.ConvTranspose2d`; by default the layer's own.
            pad: Instead: values added left, right, above and below; see `pad_to`.

        Raises:
            ArgumentError: If the output cannot have this size.
        """
        if output_size is not None:
            pad = self.pad_to(output_size, input)
        return self._computed(input, partial(self._multiply, pad=pad), partial(self._multiply_exactly, pad=pad))

    def pad_to(self, output_size: Sequence[int], inputs: Tensor) -> tuple[int, int, int, int]:
        """Values to add left, right, above and below, for an output of some height and width.

        Raises:
            ArgumentError: If the output cannot have this size.
        """
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
        return quantized_conv2d(
            self._spread(inputs, pad),
            codes,
            self._used_multiplier,
            input_scale=input_scale,
            output_scale=output_scale,
            bias=bias,
            dilation=self.dilation,
            groups=self.groups,
            gradient=self.config.gradient,
            gradient_window=self.config.gradient_window,
            full_range=full_range,
            partial_sums=self.config.partial_sums,
            overflows=self.overflows,
        )

    def _multiply_exactly(self, inputs: Tensor, pad: tuple[int, int, int, int] | None = None) -> Tensor:
        weight = self.weight * self.mask
        return F.conv2d(self._spread(inputs, pad), weight, self.bias, dilation=self.dilation, groups=self.groups)

    def _spread(self, inputs: Tensor, pad: tuple[int, int, int, int] | None) -> Tensor:
        """The inputs with zeros between and around them, which are convolved."""
        rows, columns = self.upsampling
        height, width = inputs.shape[2:]
        spread = inputs.new_zeros(*inputs.shape[:2], (height - 1) * rows + 1, (width - 1) * columns + 1)
        spread[:, :, ::rows, ::columns] = inputs
        return F.pad(spread, pad or self.pad)

    def _along_outputs(self, per_output: Tensor) -> Tensor:
        return per_output[:, None, None]

    def _shape_repr(self) -> str:
        return _convolution_repr(self, self.upsampling, self.dilation, self.pad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What a layer computes with, beside its weights; sizes from the first axis of an image to the last.

    Attributes:
        outputs: Number of outputs, or of output channels.
        kernel: Size of the kernel; empty for a linear layer, as are the others.
        stride: Stride of the convolution.
        dilation: Its dilation.
        pad: Values added before and after each axis, from the last axis to the first, as for
            `torch.nn.functional.pad`.
        upsampling: Distance of inputs from each other, once zeros are between them: above 1 in transposed convolutions.
    """

    outputs: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pad: tuple[int, ...] = ()
    upsampling: tuple[int, ...] = ()


def geometry(layer: ApproxLayer) -> Geometry:
    """The geometry of a layer, that of a transposed convolution as of the equivalent convolution."""
    outputs, _, *kernel = layer.weight.shape
    ones = (1,) * len(kernel)
    stride: tuple[int, ...]
    upsampling: tuple[int, ...]
    if isinstance(layer, ApproxConvTranspose2d):
        stride, upsampling = ones, layer.upsampling
    elif isinstance(layer, ApproxConv1d | ApproxConv2d):
        stride, upsampling = layer.stride, ones
    else:
        return Geometry(outputs=outputs)
    return Geometry(
        outputs=outputs,
        kernel=tuple(kernel),
        stride=stride,
        dilation=layer.dilation,
        pad=layer.pad,
        upsampling=upsampling,
    )


def as_convolution(weight: Tensor, groups: int) -> Tensor:
    """The weight of a transposed convolution as that of the equivalent convolution.

    Args:
        weight: Shape (inputs, outputs / groups, KH, KW), as in `nn.ConvTranspose2d`.
        groups: Groups of the layer.

    Returns:
        Shape (outputs, inputs / groups, KH, KW).
    """
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    return grouped.flatten(0, 1).flip(2, 3).contiguous()


def _convolution_repr(
    layer: ApproxLayer, stride: tuple[int, ...], dilation: tuple[int, ...], pad: tuple[int, ...]
) -> str:
    """Shape of a convolution as torch prints it; defaults are left out."""
    outputs, inputs, *kernel = layer.weight.shape
    text = f"{inputs * layer.groups}, {outputs}, kernel_size={tuple(kernel)}, stride={stride}"
    if any(pad):
        text += f", {pad=}"
    if set(dilation) != {1}:
        text += f", {dilation=}"
    return text if layer.groups == 1 else f"{text}, groups={layer.groups}"


def _padding(layer: nn.Conv1d | nn.Conv2d, axis: int) -> tuple[int, int]:
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
