"""What is taken where a search, or a request to the service, does not say. Loads nothing, for clients' sake."""

from __future__ import annotations

from typing import Final

DEFAULT_BUDGET = 200
DEFAULT_DATASET = "digits"
DEFAULT_HARDWARE = "weight-stationary-45nm"
DEFAULT_EFFORT: Final = "standard"
DEFAULT_DROP = 0.02  # in accuracy, below the baseline
