"""Evaluations of candidates: measured accuracy and modelled energy, with how they were obtained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from energy import Hardware
from search.content_hash import content_hash
from search.space.candidate import Candidate
from search.space.task import Task

Split = Literal["validation", "test"]

EVALUATION_VERSION = 10  # raise whenever the same candidate would be measured differently


def share_error(share: float, images: int) -> float:
    """The standard error of a share among images, with Agresti and Coull's two additional successes and failures.

    The American Statistician 52(2), 1998, pages 119 to 126.
    """
    share = (share * images + 2) / (images + 4)
    return math.sqrt(share * (1 - share) / images)


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowSums:
    """The partial sums that a network was computed with, where these may overflow.

    Attributes:
        bits: Their width.
        overflow: What an addition gives that leaves it, one of `energy.hardware.OVERFLOWS`.
        overflowed: Share of the sums that overflowed while the accuracy was measured; None if retraining was stopped
            before.
    """

    bits: int
    overflow: str
    overflowed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A candidate's accuracy over chips and its energy.

    Attributes:
        candidate: The candidate, in canonical form.
        chip_accuracies: Accuracy on each chip by the task's metric, in [0, 1]; at least one.
        class_accuracies: Share of each class's images that is right, as a mean over chips; None for a class without
            any. Empty if retraining was stopped.
        components_pj: Energy component -> pJ per inference.
        latency_us: Time of one inference in the energy model.
        macs: Multiply-accumulates of the dense network.
        density: Share of weights kept, as measured.
        energy_range_pj: Energy by the low and by the high table.
        area_mm2: Area of array and memories.
        workload: The network's layers, as `energy.Workload.to_dict` returns them, so that the energy on other hardware
            can be estimated without training again.
        hardware: Name of the accelerator; of several alternatives the one that costs least.
        dense_layers: Layers whose pruned weights are stored too, so that their zeros can fail.
        failures: How cells of the weight memory failed, one of `energy.hardware.FAILURES`.
        circuit_bits: Widths of weights and activations that the multipliers were built for; None for the candidate's.
        narrow_sums: Partial sums that are narrower than every sum may need; None if they are not.
        precision: How the network was trained, one of `approx.precision.PRECISIONS`; None if it was not.
        early_accuracy: Accuracy early in the retraining on integer codes, with a perfect memory; None if nothing was
            retrained.
        stopped: Whether retraining ended there, because others were clearly better: then that is the accuracy.
        seconds: Time the evaluation took.
        cpu_seconds: Processor time the evaluation took.
        joules: Energy that the computer spent on it; None if the system does not say. See `search.evaluation.meter`.
        images: Number of images on which accuracy was measured, by `search.evaluation.metrics.effective_images`.
    """

    candidate: Candidate
    chip_accuracies: tuple[float, ...]
    class_accuracies: tuple[float | None, ...]
    components_pj: Mapping[str, float]
    latency_us: float
    macs: int
    density: float
    energy_range_pj: tuple[float, float]
    area_mm2: float
    workload: Mapping[str, Any]
    hardware: str
    dense_layers: tuple[str, ...]
    failures: str
    circuit_bits: tuple[int, int] | None
    narrow_sums: NarrowSums | None
    precision: str | None
    early_accuracy: float | None
    stopped: bool
    seconds: float
    cpu_seconds: float
    joules: float | None
    images: int

    @property
    def accuracy(self) -> float:
        """Mean over chips."""
        return fmean(self.chip_accuracies)

    @property
    def accuracy_standard_error(self) -> float:
        """The standard error of `accuracy` over images and chips.

        Variation between trainings shows in fresh runs only, and the luck of the best among many not at all.
        """
        chips = len(self.chip_accuracies)
        among_chips = stdev(self.chip_accuracies) / math.sqrt(chips) if chips > 1 else 0.0
        return math.hypot(share_error(self.accuracy, self.images), among_chips)

    @property
    def accuracy_worst(self) -> float:
        """Accuracy on the worst chip."""
        return min(self.chip_accuracies)

    @property
    def energy_pj(self) -> float:
        """Energy of one inference."""
        return sum(self.components_pj.values())

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "candidate": self.candidate.to_dict(),
            "chip_accuracies": list(self.chip_accuracies),
            "class_accuracies": list(self.class_accuracies),
            "components_pj": dict(self.components_pj),
            "latency_us": self.latency_us,
            "macs": self.macs,
            "density": self.density,
            "seconds": self.seconds,
            "energy_range_pj": list(self.energy_range_pj),
            "area_mm2": self.area_mm2,
            "workload": dict(self.workload),
            "hardware": self.hardware,
            "dense_layers": list(self.dense_layers),
            "failures": self.failures,
            "circuit_bits": None if self.circuit_bits is None else list(self.circuit_bits),
            "narrow_sums": None if self.narrow_sums is None else asdict(self.narrow_sums),
            "precision": self.precision,
            "early_accuracy": self.early_accuracy,
            "stopped": self.stopped,
            "cpu_seconds": self.cpu_seconds,
            "joules": self.joules,
            "images": self.images,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Evaluation:
        """From the JSON object that `to_dict` made."""
        return cls(
            candidate=Candidate.from_dict(content["candidate"]),
            chip_accuracies=tuple(content["chip_accuracies"]),
            class_accuracies=tuple(content["class_accuracies"]),
            components_pj=content["components_pj"],
            latency_us=content["latency_us"],
            macs=content["macs"],
            density=content["density"],
            seconds=content["seconds"],
            energy_range_pj=(content["energy_range_pj"][0], content["energy_range_pj"][1]),
            area_mm2=content["area_mm2"],
            workload=content["workload"],
            hardware=content["hardware"],
            dense_layers=tuple(content["dense_layers"]),
            failures=content["failures"],
            circuit_bits=None if content["circuit_bits"] is None else tuple(content["circuit_bits"]),
            narrow_sums=None if content["narrow_sums"] is None else NarrowSums(**content["narrow_sums"]),
            precision=content["precision"],
            early_accuracy=content["early_accuracy"],
            stopped=content["stopped"],
            cpu_seconds=content["cpu_seconds"],
            joules=content["joules"],
            images=content["images"],
        )


def evaluation_key(candidate: Candidate, task: Task, *, fingerprint: str, hardware: Hardware, seed: int) -> str:
    """Content hash of everything that an evaluation depends on."""
    content: dict[str, Any] = {
        "version": EVALUATION_VERSION,
        "task": task.identity,
        "data": fingerprint,
        "effort": task.effort.to_dict(),
        **({"baseline": task.shipped_baseline.sha256} if task.shipped_baseline else {}),
        "hardware": hardware.to_dict(),
        "seed": seed,
        "candidate": candidate.canonical().to_dict(),
    }
    return content_hash(content)
