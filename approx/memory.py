"""Voltage-scaled weight memory: how often a bit fails, and which bits fail on a given chip.

A memory cell has a lowest supply voltage at which it works; it fails at every lower one. Over a chip these voltages are
close to normally distributed, so the share of failing cells is a normal tail in the supply voltage. Failures are a
property of the chip: drawn once from a seed, the same at every read, and growing as the voltage falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import torch
from torch import Tensor

from approx.errors import ArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryModel:
    """Bit failures of a 6T SRAM against its supply voltage.

    The bit error rate at supply V is Q((V / v_min - mean) / deviation), Q the upper tail of the standard normal
    distribution. At v_min and above it is zero: v_min is the lowest voltage at which the whole memory works. 8T cells,
    whose reads do not disturb them, do not fail in this range.

    Attributes:
        v_min: Lowest voltage without failures, in volts.
        mean: Mean of the cells' lowest working voltages, relative to v_min.
        deviation: Their standard deviation, relative to v_min.
    """

    v_min: float
    mean: float
    deviation: float

    def bit_error_rate(self, supply_v: float) -> float:
        """Share of 6T bits that fail at this supply voltage.

        Raises:
            ArgumentError: If the voltage is not positive.
        """
        if not supply_v > 0:
            raise ArgumentError(f"supply_v must be positive, got {supply_v}")
        if supply_v >= self.v_min:
            return 0.0
        return 0.5 * erfc((supply_v / self.v_min - self.mean) / self.deviation / sqrt(2))


# One percent of the bits fail at 0.83 v_min, as measured on a 14 nm SRAM (Chandramoorthy et al., HPCA 2019; Stutz et
# al., MLSys 2021). The second point, one cell in a million just at v_min, is an assumption. v_min itself is taken to
# be the nominal voltage of the energy tables, so that every saving comes from working below the safe voltage.
SILICON_14NM = MemoryModel(v_min=0.9, mean=0.667, deviation=0.070)


def fault_mask(
    shape: torch.Size,
    *,
    bits: int,
    bit_error_rate: float,
    robust_bits: int,
    generator: torch.Generator,
) -> Tensor:
    """Which stored bits of a tensor of codes are read inverted.

    The same generator state gives the same cells, so a mask at a lower rate, or with more robust bits, is a subset.

    Args:
        shape: Shape of the codes.
        bits: Width of a stored code.
        bit_error_rate: Probability that a 6T bit fails.
        robust_bits: How many of the top bits never fail.
        generator: The chip's randomness; advanced by one draw per stored bit.

    Returns:
        int32 of `shape`; bit i is set where stored bit i is inverted.

    Raises:
        ArgumentError: If the rate or the number of robust bits is out of range.
    """
    if not 0 <= bit_error_rate <= 1:
        raise ArgumentError(f"bit_error_rate must be in [0, 1], got {bit_error_rate}")
    if not 0 <= robust_bits <= bits:
        raise ArgumentError(f"robust_bits must be between 0 and bits={bits}, got {robust_bits}")
    weakness = torch.rand(*shape, bits, generator=generator)
    fails = weakness < bit_error_rate
    fails[..., bits - robust_bits :] = False
    place = 2 ** torch.arange(bits, dtype=torch.int32)
    return (fails * place).sum(dim=-1, dtype=torch.int32)


def read_back(codes: Tensor, faults: Tensor, bits: int) -> Tensor:
    """Codes as they are read from a memory that stores them in two's complement and inverts the bits in `faults`.

    Args:
        codes: Signed integer values, in any numeric type.
        faults: int32 of the same shape, from `fault_mask`.
        bits: Width of a stored code.

    Returns:
        Signed integer values in the type of `codes`. Without faults, `codes` unchanged.
    """
    stored = (codes.to(torch.int32) & (2**bits - 1)) ^ faults
    return torch.where(stored >= 2 ** (bits - 1), stored - 2**bits, stored).to(codes.dtype)
