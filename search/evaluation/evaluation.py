"""What is known of a candidate: its measured accuracy and modelled energy, with how they were got."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from energy import Hardware
from search.content_hash import content_hash
from search.space.candidate import Candidate
from search.space.task import Task

Split = Literal["validation", "test"]

EVALUATION_VERSION = 5  # raise whenever the same candidate would be measured differently


def share_error(share: float, images: int) -> float:
    """The standard error of a share among images, with Agresti and Coull's two successes and two failures more.

    The American Statistician 52(2), 1998, pages 119 to 126.
    """
    share = (share * images + 2) / (images + 4)
    return math.sqrt(share * (1 - share) / images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A candidate's accuracy over chips and its energy.

    Attributes:
        candidate: What was evaluated, in canonical form.
        chip_accuracies: Share of images classified correctly on each chip, in [0, 1]; at least one.
        components_pj: Energy component -> pJ per inference.
        latency_us: Time of one inference in the energy model.
        macs: Multiply-accumulates of the dense network.
        density: Share of weights kept, as measured.
        seconds: Time the evaluation took.
        energy_range_pj: Energy by the low and by the high table; None if an older version did not model it.
        area_mm2: Area of array and memories, likewise.
        workload: What was asked of the hardware, as `energy.Workload.to_dict` has it, so that other hardware can be
            asked without training again; likewise.
        dense_layers: Layers whose pruned weights are stored too, so that their zeros can fail.
        failures: How cells of the weight memory failed, one of `energy.hardware.FAILURES`.
        early_accuracy: Accuracy early in the retraining on integer codes, with a perfect memory; None if an older
            version did not measure it.
        stopped: Whether retraining ended there, because others were clearly better: then that is the accuracy.
        cpu_seconds: Processor time the evaluation took; None if an older version did not measure it.
        joules: Energy that the computer spent on it, where the system tells; see `search.evaluation.meter`.
        images: On how many images accuracy was measured; None if an older version did not keep it.
    """

    candidate: Candidate
    chip_accuracies: tuple[float, ...]
    components_pj: Mapping[str, float]
    latency_us: float
    macs: int
    density: float
    seconds: float
    energy_range_pj: tuple[float, float] | None = None
    area_mm2: float | None = None
    workload: Mapping[str, Any] | None = None
    dense_layers: tuple[str, ...] = ()
    failures: str = "silicon-14nm"  # all that there was in older versions
    early_accuracy: float | None = None
    stopped: bool = False
    cpu_seconds: float | None = None
    joules: float | None = None
    images: int | None = None

    @property
    def accuracy(self) -> float:
        """Mean over chips."""
        return fmean(self.chip_accuracies)

    @property
    def accuracy_standard_error(self) -> float | None:
        """The standard error of `accuracy`: what other images and other chips would change, None if no one knows.

        It says nothing of another training, which fresh runs tell, nor of the luck of the best among many.
        """
        if self.images is None:
            return None
        chips = len(self.chip_accuracies)
        among_chips = stdev(self.chip_accuracies) / math.sqrt(chips) if chips > 1 else 0.0
        return math.hypot(share_error(self.accuracy, self.images), among_chips)

    @property
    def accuracy_worst(self) -> float:
        """On the worst chip."""
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
            "components_pj": dict(self.components_pj),
            "latency_us": self.latency_us,
            "macs": self.macs,
            "density": self.density,
            "seconds": self.seconds,
            "energy_range_pj": self.energy_range_pj and list(self.energy_range_pj),
            "area_mm2": self.area_mm2,
            "workload": self.workload and dict(self.workload),
            "dense_layers": list(self.dense_layers),
            "failures": self.failures,
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
            components_pj=content["components_pj"],
            latency_us=content["latency_us"],
            macs=content["macs"],
            density=content["density"],
            seconds=content["seconds"],
            energy_range_pj=(found := content.get("energy_range_pj")) and (found[0], found[1]),
            area_mm2=content.get("area_mm2"),
            workload=content.get("workload"),
            dense_layers=tuple(content.get("dense_layers", ())),
            failures=content.get("failures", "silicon-14nm"),
            early_accuracy=content.get("early_accuracy"),
            stopped=content.get("stopped", False),
            cpu_seconds=content.get("cpu_seconds"),
            joules=content.get("joules"),
            images=content.get("images"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationRun:
    """A candidate trained anew, from other random numbers and on another split of the images than in the search.

    Attributes:
        candidate: What was trained, in canonical form.
        run: Its number.
        chip_accuracies: Accuracy on each chip, on images that this run held out.
        images: How many those were.
        pool: How many there were to hold out.
        test_accuracies: The same on the test images, by which nothing is decided.
        seconds: Time the run took.
    """

    candidate: Candidate
    run: int
    chip_accuracies: tuple[float, ...]
    images: int
    pool: int
    test_accuracies: tuple[float, ...]
    seconds: float

    @property
    def accuracy(self) -> float:
        """Mean over chips on the images held out."""
        return fmean(self.chip_accuracies)

    @property
    def test_accuracy(self) -> float:
        """Mean over chips on the test images."""
        return fmean(self.test_accuracies)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "candidate": self.candidate.to_dict(),
            "run": self.run,
            "chip_accuracies": list(self.chip_accuracies),
            "images": self.images,
            "pool": self.pool,
            "test_accuracies": list(self.test_accuracies),
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ConfirmationRun:
        """From the JSON object that `to_dict` made."""
        return cls(
            candidate=Candidate.from_dict(content["candidate"]),
            run=content["run"],
            chip_accuracies=tuple(content["chip_accuracies"]),
            images=content["images"],
            pool=content["pool"],
            test_accuracies=tuple(content["test_accuracies"]),
            seconds=content["seconds"],
        )


def evaluation_key(candidate: Candidate, task: Task, *, fingerprint: str, hardware: Hardware, seed: int) -> str:
    """Content hash of everything that an evaluation depends on."""
    content: dict[str, Any] = {
        "version": EVALUATION_VERSION,
        "task": task.identity,
        "data": fingerprint,
        "effort": task.effort.to_dict(),
        "hardware": hardware.to_dict(),
        "seed": seed,
        "candidate": candidate.canonical().to_dict(),
    }
    return content_hash(content)
