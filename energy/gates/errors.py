"""Errors of `energy.gates`.

EnergyError
├── GateToolError     a synthesis or simulation tool is missing, failed or took too long
├── GateDesignError   a Verilog design that is no combinational multiplier
└── GateProofError    a circuit computes something else than it should
"""

from energy.errors import EnergyError


class GateToolError(EnergyError):
    """Yosys, Icarus Verilog or the cell library is missing, failed or took too long."""


class GateDesignError(EnergyError, ValueError):
    """A Verilog design that cannot be characterised as a multiplier."""


class GateProofError(EnergyError):
    """A circuit that does not compute what it should."""
