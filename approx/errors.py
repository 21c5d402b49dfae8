"""Errors raised by this package.

ApproxError
├── UnknownNameError     no multiplier or network family of that name
├── ArgumentError        a value out of range or of the wrong type, or shapes that do not fit
│   └── ConversionError  a network cannot be converted
├── DivergedError        training reached a loss that is not a number
├── ImportFileError      a multiplier's file cannot be read, compiled or understood
└── SavedModelError      a folder is not a saved model, damaged, or its network cannot be built
"""

from __future__ import annotations


class ApproxError(Exception):
    """Base of every error that `approx` raises on purpose."""


class UnknownNameError(ApproxError, LookupError):
    """No multiplier or network family has the name that was asked for."""


class ArgumentError(ApproxError, ValueError):
    """A value is out of range or of the wrong type, or shapes do not fit each other."""


class ConversionError(ArgumentError):
    """A network cannot be converted to approximate hardware.

    Attributes:
        problem: What is in the way.
        remedy: What to do about it where `approximate` was called.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[ConversionError], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)


class DivergedError(ApproxError):
    """Training reached a loss that is not a number."""


class ImportFileError(ApproxError, ValueError):
    """A multiplier's file cannot be read, compiled or understood."""


class SavedModelError(ApproxError, ValueError):
    """A folder does not hold a saved model that can be loaded here."""
