"""Cost of multipliers in gates: Verilog is synthesised to library cells, verified by simulation, and measured.

Needs Yosys, Icarus Verilog and a cell library, all found at run time; `energy` itself only reads the table that was
produced here. See `docs/multiplier-energy.md`.
"""

from energy.gates.characterise import Exact as Exact
from energy.gates.characterise import Expected as Expected
from energy.gates.characterise import Function as Function
from energy.gates.characterise import characterise as characterise
from energy.gates.characterise import characterise_built as characterise_built
from energy.gates.errors import GateDesignError as GateDesignError
from energy.gates.errors import GateProofError as GateProofError
from energy.gates.errors import GateToolError as GateToolError
from energy.gates.source import SUFFIXES as SUFFIXES
from energy.gates.source import Source as Source
from energy.gates.source import read_source as read_source
from energy.gates.source import source_of_blif as source_of_blif
from energy.gates.source import source_of_verilog as source_of_verilog
from energy.gates.synthesis import Tools as Tools
from energy.gates.synthesis import find_tools as find_tools
from energy.gates.synthesis import tool_versions as tool_versions
from energy.gates.user_circuit import SAMPLED_PAIRS as SAMPLED_PAIRS
from energy.gates.user_circuit import UserCircuit as UserCircuit
from energy.gates.user_circuit import read_circuit as read_circuit
from energy.gates.user_rows import characterise_user as characterise_user
from energy.gates.user_rows import user_row_count as user_row_count

__all__ = [
    "SAMPLED_PAIRS",
    "SUFFIXES",
    "Exact",
    "Expected",
    "Function",
    "GateDesignError",
    "GateProofError",
    "GateToolError",
    "Source",
    "Tools",
    "UserCircuit",
    "characterise",
    "characterise_built",
    "characterise_user",
    "find_tools",
    "read_circuit",
    "read_source",
    "source_of_blif",
    "source_of_verilog",
    "tool_versions",
    "user_row_count",
]
