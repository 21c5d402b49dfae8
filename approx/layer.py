"""Base class of layers that compute on integer codes: quantise, prune, store, read back, multiply."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from approx.config import FaultyMemory, LayerApproximation
from approx.errors import ArgumentError
from approx.faults import FaultMap, fault_map, memory_seed
from approx.layer_memory import KeptCodes, LayerOnChip
from approx.multipliers.multiplier import MAX_TABLE_BITS, Multiplier
from approx.partial_sums import OverflowCount
from approx.quantization import quantize, straight_through


class ApproxLayer(nn.Module):
    """Base class of the approximate layers: from trained weights to the codes that reach the multiplier. Abstract.

    Attributes:
        config: How the layer computes.
        activation_signed: Whether activation codes are signed.
        multiplier: The multiplier in use.
        groups: Number of independent groups of channels and outputs.
        weight: The trained weight, real-valued, shape (outputs, ...); its gradient is straight-through.
        bias: Added to the rescaled sum at full precision; may be None.
        mask: bool, shape of weight: False where pruned. All True when dense.
        weight_scale: The calibrated weight scale, shape (outputs,).
        activation_scale: The calibrated activation scale, a scalar.
        log_weight_scale: Logarithm of the factor by which training changed the weight scale: shape (outputs,), or (1,)
            where outputs share one; None unless scales are learned.
        log_activation_scale: The same for the activation scale, a scalar.
        weight_memory: Faults of the weight memory; None is a perfect one.
        activation_memory: Faults of the memory that holds the layer's input; None is a perfect one.
        overflows: Sums computed so far, and those that overflowed; None where partial sums are wide enough.
        computes_exactly: Whether the layer computes in floating point instead, as to check its conversion.
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
        multiplier: Multiplier,
        mask: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.activation_signed = activation_signed
        self.multiplier = multiplier
        self.weight = _as_parameter(weight)
        self.bias = None if bias is None else _as_parameter(bias)
        outputs = len(weight)
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool) if mask is None else mask.clone())
        self.register_buffer("weight_scale", torch.ones(outputs, device=weight.device))
        self.register_buffer("activation_scale", torch.ones((), device=weight.device))
        self.log_weight_scale = self.log_activation_scale = None
        if config.learned_scales:
            scales = outputs if config.granularity == "channel" else 1
            self.log_weight_scale = nn.Parameter(torch.zeros(scales, device=weight.device))
            self.log_activation_scale = nn.Parameter(torch.zeros((), device=weight.device))
        self.weight_memory = config.weight_memory
        self.activation_memory = config.activation_memory
        self.overflows = None if config.partial_sums is None else OverflowCount()
        self.computes_exactly = False
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

    @property
    def _used_multiplier(self) -> Multiplier:
        """The multiplier, or a faster one that is equal as long as no memory changes the weights."""
        changes = self._chip is not None and self.weight_memory is not None
        return self.multiplier if changes else self.multiplier.of_allowed_weights

    def output_scale(self) -> Tensor:
        """The real value that one unit of an integer sum stands for: shape (outputs,)."""
        return self.learned_weight_scale * self.learned_activation_scale

    def put_on_chip(self, name: str, chip_seed: int | None) -> None:
        """Keep weights and activations in the memories of a chip.

        Args:
            name: The layer's name, which distinguishes its memories from others on the chip.
            chip_seed: The number of the chip; None is a chip whose memories are perfect.

        Raises:
            ArgumentError: If the weight memory is faulty, and what the multiplier makes of what it gives is not known.
        """
        self._chip = None
        if chip_seed is not None and self.weight_memory is not None:
            self._check_products_known(name, self.weight_memory)
        if chip_seed is not None:
            self._chip = LayerOnChip(
                self.config,
                name=name,
                chip_seed=chip_seed,
                activation_signed=self.activation_signed,
                weight_format=self.multiplier.weight_format,
                weight_memory=self.weight_memory,
                weight_faults=self.weight_faults(name, chip_seed),
                activation_memory=self.activation_memory,
            )

    def _check_products_known(self, name: str, memory: FaultyMemory) -> None:
        multiplier = self.multiplier
        if not multiplier.takes_any_weight:
            raise ArgumentError(
                f"layer {name!r}: what {multiplier.name!r} makes of the weights that a faulty memory gives is known up "
                f"to {MAX_TABLE_BITS} bits, not for {multiplier.weight_bits}-bit weights and "
                f"{multiplier.activation_bits}-bit activations; narrow them, or choose another multiplier"
            )
        if memory.may_invert_signs and memory.storage != "twos-complement" and multiplier.negates_zero:
            raise ArgumentError(
                f"layer {name!r}: {multiplier.name!r} takes weights as sign and magnitude, and its product with zero "
                "is not zero, so that a failed sign would negate it, which is not emulated; keep the sign in an 8T "
                "cell that does not fail (robust_bits=1), or choose another multiplier"
            )

    def weight_faults(self, name: str, chip_seed: int) -> FaultMap | None:
        """The failed cells of the weight memory on a chip, whatever is pruned; None if the memory is perfect.

        Args:
            name: As for `put_on_chip`.
            chip_seed: As for `put_on_chip`.
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
        """The weight codes as they are read from the memory.

        Without gradients they are kept until the weight, its mask, its scale or the chip changes.
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

    def forget_codes(self) -> None:
        """Free the memory of the codes that `read_codes` keeps."""
        self._kept_codes = None

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer."""
        if input.dtype == torch.bfloat16:  # from a layer that is not on codes, under autocast
            input = input.float()
        return self._computed(input, self._multiply, self._multiply_exactly)

    def extra_repr(self) -> str:
        """The layer's shape, bits and multiplier, as `print(model)` shows them."""
        sums = self.config.partial_sums
        return (
            f"{self._shape_repr()}{'' if self.bias is not None else ', bias=False'}, "
            f"weight_bits={self.config.weight_bits}, activation_bits={self.config.activation_bits}, "
            f"activation_signed={self.activation_signed}, multiplier={self.multiplier.name!r}"
            f"{'' if sums is None else f', partial_sums={sums.bits} bits that {sums.overflow}'}"
        )

    def _computed(
        self, inputs: Tensor, multiply: Callable[..., Tensor], multiply_exactly: Callable[[Tensor], Tensor]
    ) -> Tensor:
        if inputs.dim() == self._dims_of_one:
            return self._computed(inputs[None], multiply, multiply_exactly)[0]
        if self.computes_exactly:
            return multiply_exactly(inputs)
        codes, bias = self.read_codes(), self.bias
        # While scales are learned, quantising and rescaling are separate steps, whose gradients are those of LSQ.
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
    def _multiply_exactly(self, inputs: Tensor) -> Tensor:
        """Compute what the layer would in floating point."""

    @abstractmethod
    def _along_outputs(self, per_output: Tensor) -> Tensor:
        """A vector with a number for each output, in a shape that broadcasts to the layer's output."""

    @abstractmethod
    def _shape_repr(self) -> str:
        """The layer's shape in the words of torch's own layer."""


def _as_parameter(tensor: Tensor) -> nn.Parameter:
    """The parameter itself, which other layers may share; the computed value if the layer is parametrised."""
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach().clone())
