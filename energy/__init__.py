"""What an inference costs: a table of energies per action times closed-form counts of actions.

Needs no deep-learning framework. See `docs/architecture.md` for how it fits the rest.
"""

from energy.actions import ActionCounts as ActionCounts
from energy.actions import count_actions as count_actions
from energy.errors import EnergyError as EnergyError
from energy.errors import HardwareError as HardwareError
from energy.errors import WorkloadError as WorkloadError
from energy.hardware import Hardware as Hardware
from energy.hardware import Technology as Technology
from energy.hardware import hardware_names as hardware_names
from energy.hardware import load_hardware as load_hardware
from energy.hardware import multiplier_energies as multiplier_energies
from energy.model import COMPONENTS as COMPONENTS
from energy.model import EnergyReport as EnergyReport
from energy.model import EnergyTable as EnergyTable
from energy.model import energy_table as energy_table
from energy.model import estimate as estimate
from energy.model import relative_multiplier_energy as relative_multiplier_energy
from energy.workload import LayerWorkload as LayerWorkload
from energy.workload import Workload as Workload

__all__ = [
    "COMPONENTS",
    "ActionCounts",
    "EnergyError",
    "EnergyReport",
    "EnergyTable",
    "Hardware",
    "HardwareError",
    "LayerWorkload",
    "Technology",
    "Workload",
    "WorkloadError",
    "count_actions",
    "energy_table",
    "estimate",
    "hardware_names",
    "load_hardware",
    "multiplier_energies",
    "relative_multiplier_energy",
]
