"""Export a result: `search.export` writes a model as files that need neither the search nor its database."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import approx
from approx.saving import check_target
from search.api.checks import check_value
from search.api.images import stored_images
from search.api.workplace import Workplace
from search.errors import UsageError
from search.evaluation import datasets
from search.evaluation.chips import Chips
from search.evaluation.emulation import Emulation
from search.evaluation.metrics import chip_accuracies
from search.evaluation.networks import networks_of
from search.evaluation.task_images import TaskImages
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
        chip_accuracies: Accuracy of the model as it was loaded again, on the validation images and chips by which it
            was evaluated. Equal to those recorded on the machine that made them; another one may round differently.
        onnx_equals_model: Whether ONNX computes what the model does.
    """

    folder: Path
    files: tuple[str, ...]
    record: Record
    chip_accuracies: tuple[float, ...]
    onnx_equals_model: bool


def export(
    evaluation_id: str,
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    workplace: Workplace = Workplace(),
    on_training: Callable[[str], None] | None = None,
) -> Exported:
    """Write the model of a stored evaluation to a folder; `approx.load` gives it back.

    Its network is taken from the cache; what is no longer there is trained again, to the same result.

    Args:
        evaluation_id: The beginning of its key, as reports give it.
        out: The folder.
        overwrite: Whether a model that was exported there before is replaced.
        workplace: Where the evaluation is stored, its images and its networks are.
        on_training: Called with the name of each stage of training that is no longer kept, before it is repeated.

    Raises:
        UsageError: If there is no such evaluation, its custom network is not here as it was or was given as a Python
            object, one of its multipliers was imported and removed since, or the folder is in use.
        DatasetError: If the images are missing or damaged.
        StorageError: If the database does not exist or cannot be used.
        approx.ApproxError: If ONNX cannot express the network.
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
        raise UsageError(f"{error} (`overwrite`)" if not overwrite else str(error)) from None
    if stored.network is not None and stored.network.is_object:
        raise UsageError(
            f"evaluation {record.id} is of {stored.network.path}, a network that was given as a Python object, which "
            "is not stored; save its weights, and search with them as `checkpoint` and a function that builds it as "
            "`network`"
        )
    task = rebuilt_task(stored).with_effort(record.setup.effort)
    candidate, sums = record.evaluation.candidate, record.evaluation.narrow_sums
    images = TaskImages(task, datasets.load(task, places))
    emulation = Emulation(
        failures=record.evaluation.failures,
        circuit_bits=record.evaluation.circuit_bits,
        partial_sums=None if sums is None else approx.PartialSums(bits=sums.bits, overflow=sums.overflow),
        multipliers=stored_tables(candidate.multipliers, workplace.multipliers),
    )
    networks = networks_of(
        task,
        images,
        seed=record.seed,
        cache=workplace.open_cache(),
        emulation=emulation,
        on_training=on_training or (lambda stage: None),
    )
    chips = Chips(images, emulation, count=task.effort.chips, seed=record.seed)
    seeds, dense_layers = chips.seeds("validation"), record.evaluation.dense_layers
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as when it was evaluated, so that what is trained again comes out the same
    try:
        model, _ = networks.approximated(candidate, networks.pruned(candidate))
        emulation.put_in_memory(model, candidate, approx.layer_order(model, images.example()), dense_layers)
        approx.save(
            model,
            out,
            example_input=images.example(),
            chip_seed=seeds[0],
            facts=_facts(record, task, seeds),
            overwrite=overwrite,
        )
        right = chips.right(candidate, approx.load(out), "validation", dense_layers=dense_layers)
        found = chip_accuracies(right, images.labels("validation"), task.metric)
    finally:
        torch.set_num_threads(threads)
    written = Path(out)
    return Exported(
        folder=written,
        files=tuple(sorted(path.name for path in written.iterdir())),
        record=record,
        chip_accuracies=found,
        onnx_equals_model=approx.equal_in_onnx(model),
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
        "preprocessing": {  # inputs are (pixel / pixel_max - mean) / std, by channel
            "image_shape": list(task.image_shape),
            "pixel_max": task.pixel_max,
            "mean": list(task.mean),
            "std": list(task.std),
        },
        "class_names": list(task.dataset.class_names),
        "chip_seeds": chip_seeds,
        "validation_accuracy_per_chip": list(evaluation.chip_accuracies),
        "test_accuracy_per_chip": None if record.test_accuracies is None else list(record.test_accuracies),
        "energy_pj": evaluation.energy_pj,
        "components_pj": dict(evaluation.components_pj),
    }
