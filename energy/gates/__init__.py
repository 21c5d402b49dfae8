"""Cost of multipliers in gates: Verilog is synthesised to library cells, verified by simulation, and measured.

Needs Yosys, Icarus Verilog and a cell library, all found at run time; `energy` itself only reads the table that was
produced here. See `docs/multiplier-energy.md`.
"""

from energy.gates.characterise import ExactInLayers as ExactInLayers
from energy.gates.characterise import Expected as Expected
from energy.gates.characterise import Function as Function
from energy.gates.characterise import characterise as characterise
from energy.gates.characterise import characterise_built as characterise_built
from energy.gates.errors import GateDesignError as GateDesignError
from energy.gates.errors import GateProofError as GateProofError
from energy.gates.errors import GateToolError as GateToolError
from energy.gates.synthesis import Tools as Tools
from energy.gates.synthesis import find_tools as find_tools
from energy.gates.synthesis import tool_versions as tool_versions
from energy.gates.user_verilog import UserMultiplier as UserMultiplier
from energy.gates.user_verilog import characterise_user as characterise_user
from energy.gates.user_verilog import read_user_verilog as read_user_verilog
from energy.gates.user_verilog import user_row_count as user_row_count

__all__ = [
    "ExactInLayers",
    "Expected",
    "Function",
    "GateDesignError",
    "GateProofError",
    "GateToolError",
    "Tools",
    "UserMultiplier",
    "characterise",
    "characterise_built",
    "characterise_user",
    "find_tools",
    "read_user_verilog",
    "tool_versions",
    "user_row_count",
]
