"""Take the result of a search along: its model as files that need neither the search nor its database."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import approx
from approx.saving import check_target
from search.api.workshop import open_stages
from search.errors import UsageError
from search.evaluation import datasets
from search.evaluation.training import Training
from search.locations import data_dir as find_data_dir
from search.locations import storage_url
from search.multipliers.choice import register_stored_multiplier
from search.space.custom_network import find_network
from search.space.task import Task, stored_task
from search.store.store import Record, Store


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
    storage: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    stages: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    on_training: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Write the model of a stored evaluation to a folder; `approx.load` gives it back.

    Its network is taken from the kept stages; what is not kept any more is trained again, to the same result.

    Args:
        evaluation_id: The beginning of its key, as reports give it.
        out: The folder.
        storage: Results database; see `search.locations.storage_url`.
        data_dir: Folder of datasets; see `search.locations.data_dir`.
        stages: Folder or fsspec URL of trained networks; see `search.locations.stage_location`.
        overwrite: Whether a model that was exported there before is replaced.
        on_training: Is told the name of each stage that is not kept any more, before it is trained again.

    Raises:
        UsageError: If there is no such evaluation, it is of a network of your own that is not here as it was, one
            of its multipliers was imported and is not kept any more, or the folder is in use.
        DatasetError: If the images are missing or damaged.
        StorageError: If the database does not exist or cannot be used.
        approx.ApproxError: If ONNX cannot express the network.
    """
    url = storage_url(storage)
    with Store.open(url, create=False) as store:
        record, identity, hardware = store.evaluation_with_id(evaluation_id)
    try:
        check_target(Path(out), overwrite)  # before anything is trained
    except approx.ArgumentError as error:
        raise UsageError(f"{error} (--overwrite)" if not overwrite else str(error)) from None
    task = _task(identity).with_effort(record.effort)
    candidate = record.evaluation.candidate
    for multiplier in candidate.multipliers:
        register_stored_multiplier(multiplier)
    training = Training(
        task,
        datasets.load(task, find_data_dir(data_dir)),
        seed=record.seed,
        stages=open_stages(url, stages, None),
        failures=record.evaluation.failures,
        on_training=on_training,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as when it was evaluated, so that what is trained again comes out the same
    try:
        model, _ = training.approximated(candidate, training.pruned(candidate))
        training.put_in_memory(model, candidate, record.evaluation.dense_layers)
        approx.save(
            model,
            out,
            builder=task.network.path if task.network else "approx:build_named_network",
            arguments=_arguments(task, candidate.family, candidate.depth, candidate.width),
            example_input=training.example(),
            chip_seed=training.chip_seeds("validation")[0],
            facts=_facts(record, identity, hardware, training.chip_seeds("validation")),
            overwrite=overwrite,
        )
        found = training.chip_accuracies(
            candidate, approx.load(out), "validation", dense_layers=record.evaluation.dense_layers
        )
    finally:
        torch.set_num_threads(threads)
    folder = Path(out)
    return Exported(
        folder=folder,
        files=tuple(sorted(path.name for path in folder.iterdir())),
        record=record,
        chip_accuracies=found,
        onnx_equals_model=approx.equal_in_onnx(model),
    )


def _task(identity: str) -> Task:
    task = stored_task(identity)
    if task.network is None:
        return task
    here = find_network(task.network.path, folder=str(Path.cwd()), image_shape=task.image_shape, classes=task.classes)
    if here.identity != task.network.identity:
        raise UsageError(f"{here.path} was edited after it was evaluated, so it is another network; search again")
    return task.with_network(here)


def _arguments(task: Task, family: str, depth: int, width: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"image_shape": list(task.image_shape), "classes": task.classes}
    if task.network is None:
        return {"family": family, "depth": depth, "width": width, **arguments}
    knobs = {"depth": (depth, task.network.max_depth), "width": (width, task.network.max_width)}
    return arguments | {name: value for name, (value, largest) in knobs.items() if largest > 1}


def _facts(record: Record, task: str, hardware: str, chip_seeds: list[int]) -> dict[str, Any]:
    evaluation = record.evaluation
    return {
        "id": record.key,
        "task": task,
        "hardware": hardware,
        "seed": record.seed,
        "candidate": evaluation.candidate.to_dict(),
        "chip_seeds": chip_seeds,
        "validation_accuracy_per_chip": list(evaluation.chip_accuracies),
        "test_accuracy_per_chip": None if record.test_accuracies is None else list(record.test_accuracies),
        "energy_pj": evaluation.energy_pj,
        "components_pj": dict(evaluation.components_pj),
    }
