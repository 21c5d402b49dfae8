"""Trained baselines that come with the package: what they are, without their weights.

Each is a file of weights in half precision beside a JSON file that says what made it: `python -m benchmarks.recipes`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "baselines"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedBaseline:
    """A trained network.

    Attributes:
        dataset: Name of the built-in data set that it was trained on, without its validation and test images.
        family: Its family.
        depth: Its depth.
        width: Its width.
        sha256: SHA-256 of the file of its weights.
        seed: Seed of its training.
        command: The command that made it.
        versions: Package -> version with which it was made.
        machine: The processor on which it was made.
        validation_accuracy: Share of the validation images that it classifies correctly, in floating point.
        test_accuracy: The same of the test images.
    """

    dataset: str
    family: str
    depth: int
    width: int
    sha256: str
    seed: int
    command: str
    versions: dict[str, str]
    machine: str
    validation_accuracy: float
    test_accuracy: float

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return FOLDER / f"{self.dataset}.safetensors"


@functools.cache
def shipped_baseline(dataset: str) -> ShippedBaseline | None:
    """Return the baseline of a built-in data set that comes with the package; None if there is none."""
    file = FOLDER / f"{dataset}.json"
    if not file.is_file():
        return None
    return ShippedBaseline(**json.loads(file.read_text(encoding="utf-8")))
