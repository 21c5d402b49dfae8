"""Errors raised by this package.

ApproxError
├── UnknownNameError     no multiplier or network family of that name
├── ArgumentError        a value out of range or of the wrong type, or shapes that do not fit
├── DivergedError        training reached a loss that is not a number
├── ImportFileError      a multiplier's file cannot be read, compiled or understood
└── SavedModelError      a folder is not a saved model, damaged, or its network cannot be built
"""


class ApproxError(Exception):
    """Base of every error that `approx` raises on purpose."""


class UnknownNameError(ApproxError, LookupError):
    """No multiplier or network family has the name that was asked for."""


class ArgumentError(ApproxError, ValueError):
    """A value is out of range or of the wrong type, or shapes do not fit each other."""


class DivergedError(ApproxError):
    """Training reached a loss that is not a number."""


class ImportFileError(ApproxError, ValueError):
    """A multiplier's file cannot be read, compiled or understood."""


class SavedModelError(ApproxError, ValueError):
    """A folder does not hold a saved model that can be loaded here."""
