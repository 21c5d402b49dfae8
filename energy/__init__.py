"""Energy, time and area of an inference: energies per action times closed-form counts of actions.

Needs no deep-learning framework. `docs/energy-model.md` has the formulas and their limits.
"""

from energy.actions import ActionCounts as ActionCounts
from energy.components import COMPONENTS as COMPONENTS
from energy.compression import FORMATS as FORMATS
from energy.compression import format_bits as format_bits
from energy.cost_table import CostTable as CostTable
from energy.cost_table import MultiplierCost as MultiplierCost
from energy.cost_table import multiplier_cost as multiplier_cost
from energy.cost_table import register_multiplier_cost as register_multiplier_cost
from energy.errors import EnergyError as EnergyError
from energy.errors import HardwareError as HardwareError
from energy.errors import WorkloadError as WorkloadError
from energy.estimates import Estimate as Estimate
from energy.hardware import Hardware as Hardware
from energy.hardware import hardware_names as hardware_names
from energy.hardware import load_hardware as load_hardware
from energy.hardware import parse_hardware as parse_hardware
from energy.hardware_parts import Dram as Dram
from energy.hardware_parts import Memory as Memory
from energy.hardware_parts import Overhead as Overhead
from energy.hardware_parts import Scratchpads as Scratchpads
from energy.hardware_parts import Widths as Widths
from energy.mapping import count_actions as count_actions
from energy.model import BatchReport as BatchReport
from energy.model import EnergyReport as EnergyReport
from energy.model import estimate as estimate
from energy.model import estimate_batch as estimate_batch
from energy.table import EnergyTable as EnergyTable
from energy.technology import Technology as Technology
from energy.technology import dram_energies as dram_energies
from energy.technology import load_technology as load_technology
from energy.technology import technology_names as technology_names
from energy.workload import LayerWorkload as LayerWorkload
from energy.workload import Workload as Workload
from energy.workload import WorkloadBatch as WorkloadBatch

__all__ = [
    "COMPONENTS",
    "FORMATS",
    "ActionCounts",
    "BatchReport",
    "CostTable",
    "Dram",
    "EnergyError",
    "EnergyReport",
    "EnergyTable",
    "Estimate",
    "Hardware",
    "HardwareError",
    "LayerWorkload",
    "Memory",
    "MultiplierCost",
    "Overhead",
    "Scratchpads",
    "Technology",
    "Widths",
    "Workload",
    "WorkloadBatch",
    "WorkloadError",
    "count_actions",
    "dram_energies",
    "estimate",
    "estimate_batch",
    "format_bits",
    "hardware_names",
    "load_hardware",
    "load_technology",
    "multiplier_cost",
    "parse_hardware",
    "register_multiplier_cost",
    "technology_names",
]
