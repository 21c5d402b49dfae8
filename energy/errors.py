"""Errors raised by this package.

EnergyError
├── HardwareError    a hardware or technology description that is missing, malformed or out of range
└── WorkloadError    a workload that no hardware could run
"""


class EnergyError(Exception):
    """Base of every error that `energy` raises on purpose."""


class HardwareError(EnergyError, ValueError):
    """A hardware or technology file is missing, malformed or holds a value out of range."""


class WorkloadError(EnergyError, ValueError):
    """A workload's numbers contradict each other or lie out of range."""
