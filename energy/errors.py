"""Errors raised by this package.

EnergyError
├── HardwareError    a hardware or technology description is missing, malformed or out of range
└── WorkloadError    a workload is invalid, cannot run on the hardware, or has a multiplier of unknown cost

The text of a HardwareError about a file has one line for each of its mistakes.
"""


class EnergyError(Exception):
    """Base of all errors of `energy`."""


class HardwareError(EnergyError, ValueError):
    """A hardware or technology file is missing, malformed or holds a value out of range."""


class WorkloadError(EnergyError, ValueError):
    """A workload is invalid or cannot run on the hardware, or a multiplier's cost is unknown or invalid."""
