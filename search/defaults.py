"""Default values and limits of searches and of requests to the service. Loads nothing, so that clients stay light."""

from __future__ import annotations

from typing import Final

DEFAULT_BUDGET = 200
DEFAULT_DATASET = "digits"
DEFAULT_HARDWARE = "flexible-45nm"
DEFAULT_EFFORT: Final = "standard"
DEFAULT_DROP = 0.02  # in accuracy, below the baseline
LARGEST_SIDE = 4096  # pixels, of images that are resized
SAMPLERS = ("nsga2", "nsga3", "tpe", "gp", "random")  # the default first
PRECISIONS = ("float32", "float32-channels-last", "bfloat16")  # as `approx.precision` has them (a test)
