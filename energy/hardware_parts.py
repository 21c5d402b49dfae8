"""The parts of an accelerator: memories, scratchpads, widths of the array, and what is not modelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from energy.arrays import Array
from energy.estimates import Estimate
from energy.technology import dram_energies

Cell = Literal["6T", "8T", "hybrid"]

CELLS: tuple[Cell, ...] = ("6T", "8T", "hybrid")
_NOTHING = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """An on-chip memory.

    Attributes:
        capacity_kb: Capacity in KB of 1024 bytes; None if it is fitted to the network.
        bank_kb: Size of a bank; fitted capacities are whole numbers of banks.
        port_bits: Bits moved by one access.
        word_bits: Width of a word; each value takes a whole number of words. 1 packs values of any width.
        cell: Type of the cells. In a hybrid memory the workload's robust bits are in 8T cells, the others in 6T cells.
        supply_v: Supply voltage, in volts. A workload may lower that of the weight memory.
    """

    capacity_kb: int | None
    bank_kb: int
    port_bits: int
    word_bits: int
    cell: Cell
    supply_v: float

    @property
    def metadata_is_8t(self) -> bool:
        """Whether metadata is stored in 8T cells: if there are any, because one error in it spoils many weights."""
        return self.cell != "6T"

    def stored_bits(self, value_bits: Array | float) -> Array:
        """Compute the bits that a value takes in whole words."""
        if self.word_bits == 1:  # a shortcut for most hardware
            return np.asarray(np.ceil(value_bits))
        return np.asarray(np.ceil(np.divide(value_bits, self.word_bits)) * self.word_bits)

    def robust_share(self, robust_bits: Array, value_bits: Array) -> Array | float:
        """Compute the share of each stored value's bits that is in 8T cells."""
        if self.cell == "hybrid":
            return robust_bits / self.stored_bits(value_bits)
        return 1.0 if self.cell == "8T" else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dram:
    """Off-chip memory.

    Attributes:
        interface: A name in `energy/technology/dram.yaml`.
        keeps_feature_maps: Whether a feature map stays on the chip if it fits, instead of always going through DRAM.
        compressed: Whether feature maps are moved without their zeros, which a bitmask marks.
    """

    interface: str
    keeps_feature_maps: bool
    compressed: bool

    @property
    def pj_per_bit(self) -> Estimate:
        """Energy of one bit moved."""
        return dram_energies()[self.interface]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratchpads:
    """Values that each processing element of a row-stationary array holds.

    Attributes:
        weights: Weights.
        inputs: Activations.
        sums: Partial sums.
    """

    weights: int
    inputs: int
    sums: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Widths that an array is built for; narrower codes leave its highest bits at rest.

    Attributes:
        weights: Bits of a weight.
        activations: Bits of an activation.
    """

    weights: int
    activations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Energy of what is not modelled: control, networks on the chip, regulators of further supplies.

    Attributes:
        pj_per_cycle: Energy of each clock cycle.
        pj_per_inference: Energy of each inference.
    """

    pj_per_cycle: Estimate = _NOTHING
    pj_per_inference: Estimate = _NOTHING
