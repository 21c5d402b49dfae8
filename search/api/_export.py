"""Export a result: `search.export` writes a model as files that need neither the search nor its database."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

import approx
from approx.saving import check_target
from search.api.checks import check_value
from search.api.images import stored_images
from search.api.workplace import Workplace
from search.errors import DatasetError, UsageError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.chips import Chips, chip_seeds
from search.evaluation.emulation import Emulation
from search.evaluation.finished import FinishedNetworks, example_of
from search.evaluation.metrics import chip_accuracies
from search.evaluation.networks import networks_of
from search.evaluation.task_images import TaskImages
from search.evaluation.threads import one_thread
from search.images.places import ImagePlaces
from search.multipliers.folder import MultiplierFolder
from search.multipliers.known import stored_tables
from search.space.task import Task
from search.space.task_request import rebuilt_task
from search.store.database import Store
from search.store.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where.
        files: Names of the files in it.
        record: The evaluation.
        kept: Whether its network was kept; else it was made again, and is kept now.
        chip_accuracies: Accuracy of the model as it was loaded again, on the validation images and chips by which it
            was evaluated. Equal to those recorded on the machine that made them; another one may round differently.
            None if it was not measured, because the images are not here.
        unchecked: Why it was not measured; None if it was.
        onnx_equals_model: Whether ONNX computes what the model does.
    """

    folder: Path
    files: tuple[str, ...]
    record: Record
    kept: bool
    chip_accuracies: tuple[float, ...] | None
    unchecked: str | None
    onnx_equals_model: bool


def export(
    evaluation_id: str,
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    workplace: Workplace = Workplace(),
    on_remaking: Callable[[str], None] | None = None,
    on_training: Callable[[str], None] | None = None,
) -> Exported:
    """Write the model of a stored evaluation to a folder; `approx.load` gives it back.

    Networks on the front of a search, and of answers, are kept: nothing is trained, and no images and no code are
    needed. Any other is made again from the images, and stages of its training that are not kept are repeated. Where
    the images are here, the accuracy of the written model is measured.

    Args:
        evaluation_id: The beginning of its key, as reports give it.
        out: The folder.
        overwrite: Whether a model that was exported there before is replaced.
        workplace: Where the evaluation is stored, its images and its networks are.
        on_remaking: Called with the reason, a sentence, before a network that is not kept is made again.
        on_training: Called with the name of each stage of training that is no longer kept, before it is repeated.

    Raises:
        UsageError: If there is no such evaluation, the folder is in use, or its network is not kept and what it is
            made of is not here as it was: a custom network, or an imported multiplier.
        DatasetError: If its network is not kept, and the images are missing or damaged.
        StorageError: If the database does not exist or cannot be used.
        approx.ApproxError: If the network cannot be traced, or ONNX cannot express it.
    """
    check_value("workplace", workplace, Workplace)
    if not isinstance(out, str | os.PathLike):
        raise UsageError(f"`out` must be the path of a folder, got {out!r}")
    if not isinstance(evaluation_id, str):
        raise UsageError(f"`evaluation_id` must be the beginning of an evaluation's key, got {evaluation_id!r}")
    with Store.open(workplace.url, create=False) as store:
        record = store.evaluations.with_id(evaluation_id)
        stored = store.tasks.find(record.setup.task)
        places = stored_images(stored, workplace, store)
    try:
        check_target(Path(out), overwrite)  # before anything is trained
    except approx.ArgumentError as error:
        raise UsageError(str(error)) from None
    cache = workplace.open_cache()
    source = _Source(record, stored, places, cache, workplace.multipliers)
    with one_thread():  # as when it was evaluated, so that what is trained again comes out the same
        model = source.kept()
        kept = model is not None
        if model is None:
            model = source.made_again(on_remaking or (lambda reason: None), on_training or (lambda stage: None))
        approx.save(
            model,
            out,
            example_input=example_of(stored),
            chip_seed=source.chip_seeds[0],
            facts=_facts(record, stored, source.chip_seeds),
            overwrite=overwrite,
        )
        found, unchecked = source.measured(approx.load(out), download=not kept)
    written = Path(out)
    return Exported(
        folder=written,
        files=tuple(sorted(path.name for path in written.iterdir())),
        record=record,
        kept=kept,
        chip_accuracies=found,
        unchecked=unchecked,
        onnx_equals_model=approx.equal_in_onnx(model),
    )


class _Source:
    """Where the network of an evaluation comes from.

    Args:
        record: The evaluation.
        stored: Its task, whose custom network cannot be built.
        places: Where its images are.
        cache: Where networks are kept.
        multipliers: The folder of imported multipliers.
    """

    def __init__(
        self, record: Record, stored: Task, places: ImagePlaces, cache: TrainingCache, multipliers: MultiplierFolder
    ) -> None:
        self._record = record
        task = stored.with_effort(record.setup.effort)
        precision = record.evaluation.precision or task.effort.precision
        self._task = replace(task, effort=replace(task.effort, precision=precision))
        self._places = places
        self._cache = cache
        self._multipliers = multipliers
        self.chip_seeds = chip_seeds("validation", count=self._task.effort.chips, seed=record.seed)

    def kept(self) -> nn.Module | None:
        """Return the kept network; None if there is none."""
        return FinishedNetworks(self._task, self._cache).find(self._record.key, self._record.evaluation.candidate)

    def made_again(self, on_remaking: Callable[[str], None], on_training: Callable[[str], None]) -> nn.Module:
        """Return the network, made again from the images and kept; see `export` for the arguments.

        Raises:
            UsageError: If what it is made of is not here as it was.
            DatasetError: If the images are missing or damaged.
        """
        lacking = f"the network of evaluation {self._record.id} is not kept in `cache` {self._cache.location}"
        try:
            task = self._rebuilt_task()
            images = TaskImages(task, datasets.load(task, self._places))
            candidate = self._record.evaluation.candidate
            emulation = self._emulation(stored_tables(candidate.multipliers, self._multipliers))
        except (DatasetError, UsageError) as error:
            raise type(error)(f"{lacking}, and it cannot be made again: {error}") from None
        on_remaking(
            f"{lacking}, where searches keep those of their fronts and answers; it is made again from the images"
        )
        networks = networks_of(
            task, images, seed=self._record.seed, cache=self._cache, emulation=emulation, on_training=on_training
        )
        dense_layers = self._record.evaluation.dense_layers
        model, _ = networks.approximated(candidate, networks.pruned(candidate), dense_layers=dense_layers)
        FinishedNetworks(task, self._cache).keep(self._record.key, candidate, model, emulation, dense_layers)
        return model

    def measured(self, model: nn.Module, *, download: bool) -> tuple[tuple[float, ...] | None, str | None]:
        """Return the accuracy of a network on each chip, or None and why it cannot be measured.

        Args:
            model: The network.
            download: Whether missing images are downloaded for it, where they can be.
        """
        task, evaluation = self._task, self._record.evaluation
        try:
            if not download:
                datasets.check_present(task, self._places)
            images = TaskImages(task, datasets.load(task, self._places))
        except DatasetError as error:
            return None, str(error)
        chips = Chips(images, self._emulation({}), count=task.effort.chips, seed=self._record.seed)
        right = chips.right(evaluation.candidate, model, "validation", dense_layers=evaluation.dense_layers)
        return chip_accuracies(right, images.labels("validation"), task.metric), None

    def _rebuilt_task(self) -> Task:
        network = self._task.network
        if network is not None and network.is_object:
            raise UsageError(
                f"it is of {network.path}, a network that was given as a Python object, which is not stored; save its "
                "weights, and search with them as `checkpoint` and a function that builds it as `network`"
            )
        return rebuilt_task(self._task)

    def _emulation(self, multipliers: Mapping[str, approx.Multiplier]) -> Emulation:
        evaluation = self._record.evaluation
        sums = evaluation.narrow_sums
        return Emulation(
            failures=evaluation.failures,
            circuit_bits=evaluation.circuit_bits,
            partial_sums=None if sums is None else approx.PartialSums(bits=sums.bits, overflow=sums.overflow),
            multipliers=multipliers,
        )


def _facts(record: Record, task: Task, chip_seeds: list[int]) -> dict[str, Any]:
    evaluation = record.evaluation
    return {
        "id": record.key,
        "task": record.setup.task,
        "hardware": record.setup.hardware,
        "accelerator": evaluation.hardware,
        "seed": record.seed,
        "candidate": evaluation.candidate.to_dict(),
        "preprocessing": _preprocessing(task),
        "class_names": list(task.dataset.class_names),
        "chip_seeds": chip_seeds,
        "validation_accuracy_per_chip": list(evaluation.chip_accuracies),
        "test_accuracy_per_chip": None if record.test_accuracies is None else list(record.test_accuracies),
        "energy_pj": evaluation.energy_pj,
        "components_pj": dict(evaluation.components_pj),
    }


def _preprocessing(task: Task) -> dict[str, Any]:
    """How the network's inputs are made of pictures; see docs/approximation.md."""
    channels, height, width = task.image_shape
    return {
        "image_shape": [channels, height, width],
        "layout": "channels, height, width",
        "channels": ["gray"] if channels == 1 else ["red", "green", "blue"],
        "gray_pictures": "as they are" if channels == 1 else "their value in each channel",
        "resizing": "bilinear, antialiased where it shrinks",
        "pixel_max": task.pixel_max,
        "mean": list(task.mean or (0.0,) * channels),
        "std": list(task.std or (1.0,) * channels),
        "formula": "(pixel / pixel_max - mean) / std, by channel",
    }
