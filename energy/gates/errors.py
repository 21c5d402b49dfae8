"""Errors of `energy.gates`.

EnergyError
├── GateToolError     a synthesis or simulation tool is missing, failed or took too long
├── GateDesignError   a Verilog design is not a combinational multiplier
└── GateProofError    a circuit does not compute the expected products
"""

from energy.errors import EnergyError


class GateToolError(EnergyError):
    """Yosys, Icarus Verilog or the cell library is missing, failed or took too long."""


class GateDesignError(EnergyError, ValueError):
    """A Verilog design cannot be characterised as a multiplier."""


class GateProofError(EnergyError):
    """A circuit does not compute the expected products."""
