"""A multiplier is what it computes: a product for every pair of operand codes.

The convention of the whole project: `lut[activation_code, weight_code]`, both codes read as unsigned indices (a signed
code c of b bits has index c mod 2**b), entries int32. Weights are signed; activations are signed or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from approx.errors import ArgumentError


def code_values(bits: int, signed: bool) -> Tensor:
    """The integer that each code index stands for: int32, shape (2**bits,)."""
    index = torch.arange(2**bits, dtype=torch.int32)
    return torch.where(index >= 2 ** (bits - 1), index - 2**bits, index) if signed else index


@dataclass(frozen=True, eq=False, kw_only=True)
class Multiplier:
    """A multiplier of fixed operand widths, given by exactly one of a recoding or a truth table.

    Attributes:
        name: Its name in the catalogue.
        weight_bits: Width of the signed weight operand.
        activation_bits: Width of the activation operand.
        activation_signed: Whether activations are signed.
        recoding: int32, shape (2**weight_bits,): the weight that the hardware multiplies by exactly when it is given
            each weight code. For multipliers that approximate their weight operand only.
        lut: int32, shape (2**activation_bits, 2**weight_bits): the truth table.

    Raises:
        ArgumentError: If not exactly one of `recoding` and `lut` is given, or its shape or type is wrong.
    """

    name: str
    weight_bits: int
    activation_bits: int
    activation_signed: bool
    recoding: Tensor | None = field(default=None, repr=False)
    lut: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        given = self.recoding if self.lut is None else self.lut
        if given is None or (self.recoding is not None and self.lut is not None):
            raise ArgumentError(f"multiplier {self.name!r}: give exactly one of recoding and lut")
        shape: tuple[int, ...] = (2**self.weight_bits,)
        if self.lut is not None:
            shape = (2**self.activation_bits, *shape)
        if given.shape != shape or given.dtype != torch.int32:
            raise ArgumentError(
                f"multiplier {self.name!r}: its table must be int32 of shape {shape}, "
                f"got {given.dtype} of shape {tuple(given.shape)}"
            )

    def table(self) -> Tensor:
        """The whole truth table: int32, shape (2**activation_bits, 2**weight_bits)."""
        if self.lut is not None:
            return self.lut
        assert self.recoding is not None
        activations = code_values(self.activation_bits, self.activation_signed)
        return activations[:, None] * self.recoding[None, :]

    def constrain(self, weight_codes: Tensor) -> Tensor:
        """Weight codes moved to the nearest that the multiplier multiplies exactly; unchanged if it has a truth table.

        Args:
            weight_codes: Integer values (not indices) in any numeric type, any shape.
        """
        if self.recoding is None:
            return weight_codes
        index = weight_codes.to(torch.int64) & (2**self.weight_bits - 1)
        return self.recoding[index].to(weight_codes.dtype)
