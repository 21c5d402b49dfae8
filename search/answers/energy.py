"""The energy of one candidate, layer by layer, on any hardware, without training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import energy
from search.defaults import DEFAULT_HARDWARE
from search.errors import UsageError
from search.evaluation.workload import kept_weights, on_hardware, workload_of
from search.images.places import ImagePlaces
from search.locations import storage_url
from search.multipliers.choice import why_not_on
from search.multipliers.folder import MultiplierFolder
from search.multipliers.known import stored_costs
from search.space.candidate import Candidate
from search.space.stored_hardware import stored_hardware
from search.space.task import Task
from search.space.task_request import TaskRequest, searched_task
from search.store.database import Store
from search.store.records import Record

T = TypeVar("T")

_DENSE = "Activations are taken to be dense: how many are zero is known for evaluated candidates only."
_OTHER_HARDWARE = "Its accuracy was measured for {}; other memory cells, formats or partial sums may change it."
_NO_BASELINE = "A workload alone has no baseline; give a candidate to compare it with one."


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A candidate's energy on some hardware.

    Attributes:
        title: Id of the evaluation, or name of the file.
        candidate: The candidate; None for a custom workload.
        workload: The workload on the hardware.
        hardware: The accelerator.
        report: The energy of the workload.
        baseline: The energy of the baseline on the same hardware; None if there is none.
        notes: Remarks for readers.
    """

    title: str
    candidate: Candidate | None
    workload: energy.Workload
    hardware: energy.Hardware
    report: energy.EnergyReport
    baseline: energy.EnergyReport | None
    notes: tuple[str, ...]

    @property
    def saving(self) -> energy.Estimate | None:
        """The baseline's energy over the candidate's; None without a baseline.

        Low and high are the extremes over every mix of the low and the high table: each component may have its lowest
        or its highest energy, the same in candidate and baseline.
        """
        if self.baseline is None:
            return None
        ours, theirs = (np.array(list(one.component_bands.values()))[:, [0, 2]] for one in (self.report, self.baseline))
        components = np.arange(len(ours))
        mixes = np.array(list(product((0, 1), repeat=len(ours))))  # for each component, its low or its high
        ratios = theirs[components, mixes].sum(axis=1) / ours[components, mixes].sum(axis=1)
        value = self.baseline.energy_pj / self.report.energy_pj
        return energy.Estimate(min(value, float(ratios.min())), value, max(value, float(ratios.max())))


def score(
    source: str,
    *,
    hardware: str | None = None,
    task: TaskRequest = TaskRequest(),
    storage: str | None = None,
    folder: MultiplierFolder | None = None,
    images: ImagePlaces | None = None,
) -> Scored:
    """Score a stored evaluation, or the candidate or workload in a file.

    Args:
        source: The beginning of a stored evaluation's key; or the path of a JSON file that holds a candidate, anything
            with one under the key `candidate` (such as `search best --json` prints under `best`), or a workload as
            `energy.Workload.to_dict` makes it, itself or under the key `workload`.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file; by default what the evaluation was
            made for, or else the default.
        task: Task of a candidate in a file: its images decide the size of the network.
        storage: Results database; see `search.locations.storage_url`.
        folder: Where imported multipliers are; by default the user's folder.
        images: Where images are; by default the user's folders.

    Raises:
        UsageError: If the source cannot be read or found, or was evaluated on custom hardware that is not given.
        energy.EnergyError: If the hardware is unknown, or cannot run it.
        StorageError: If the database does not exist or cannot be used.
    """
    path = Path(source)
    folder = folder or MultiplierFolder.default()
    if not path.suffix and not path.exists():
        return _score_stored(source, hardware, storage, folder)
    content = _read(path)
    accelerator = energy.load_hardware(hardware or DEFAULT_HARDWARE)
    custom = _workload_in(content)
    if custom is not None:
        workload = _in_file(path, lambda: energy.Workload.from_dict(custom))
        return Scored(
            title=path.name,
            candidate=None,
            workload=workload,
            hardware=accelerator,
            report=_in_file(path, lambda: energy.estimate(workload, accelerator)),
            baseline=None,
            notes=(_NO_BASELINE,),
        )
    candidate = read_candidate(path)
    found = searched_task(task, images or ImagePlaces.at())
    costs = stored_costs(candidate.multipliers, folder)
    return _in_file(path, lambda: score_candidate(candidate, found, accelerator, costs=costs, title=path.name))


def score_candidate(
    candidate: Candidate, task: Task, hardware: energy.Hardware, *, costs: energy.CostTable, title: str = "candidate"
) -> Scored:
    """Score a candidate that was never trained.

    Args:
        candidate: A candidate in canonical form.
        task: Decides the size of the image and the baseline.
        hardware: The accelerator.
        costs: Costs of its multipliers.
        title: Name for the candidate.

    Raises:
        UsageError: If its network does not exist, or one of its multipliers no longer does.
        energy.EnergyError: If the hardware cannot run it.
    """
    workload = _untrained(candidate, task, hardware)
    return Scored(
        title=title,
        candidate=candidate,
        workload=workload,
        hardware=hardware,
        report=energy.estimate(workload, hardware, costs=costs),
        baseline=energy.estimate(_untrained(task.space.baseline(), task, hardware), hardware, costs=costs),
        notes=(_DENSE, *_not_on(candidate, hardware, costs)),
    )


def _not_on(candidate: Candidate, hardware: energy.Hardware, costs: energy.CostTable) -> list[str]:
    """Say why multipliers of a candidate would not be chosen on some hardware."""
    reasons = (why_not_on(one, costs, hardware) for one in dict.fromkeys(candidate.multipliers))
    return [f"{reason[0].upper()}{reason[1:]}." for reason in reasons if reason is not None]


def stored_workload(record: Record, hardware: energy.Hardware) -> energy.Workload:
    """Return the workload of a stored evaluation, at the voltage that its candidate means on some hardware."""
    return on_hardware(energy.Workload.from_dict(record.evaluation.workload), record.evaluation.candidate, hardware)


def _score_stored(evaluation_id: str, hardware: str | None, storage: str | None, folder: MultiplierFolder) -> Scored:
    with Store.open(storage_url(storage), create=False) as store:
        record = store.evaluations.with_id(evaluation_id)
        baseline = store.evaluations.of_candidate(store.tasks.find(record.setup.task).space.baseline(), record.setup)
    evaluated_on = record.setup.hardware
    accelerator = stored_hardware(evaluated_on, hardware)
    workload = stored_workload(record, accelerator)
    costs = stored_costs(record.evaluation.candidate.multipliers, folder)
    return Scored(
        title=record.id,
        candidate=record.evaluation.candidate,
        workload=workload,
        hardware=accelerator,
        report=energy.estimate(workload, accelerator, costs=costs),
        baseline=None
        if baseline is None
        else energy.estimate(stored_workload(baseline, accelerator), accelerator, costs=costs),
        notes=(
            *(() if baseline else ("Its baseline is not stored.",)),
            *_not_on(record.evaluation.candidate, accelerator, costs),
            *((_OTHER_HARDWARE.format(evaluated_on),) if accelerator.identity != evaluated_on else ()),
        ),
    )


def _untrained(candidate: Candidate, task: Task, hardware: energy.Hardware) -> energy.Workload:
    """Return the workload of a candidate that was never trained: its shapes are known, its activations are not."""
    from search.evaluation.training import untrained_layers  # imported late, because it loads torch

    shapes = [replace(shape, input_density=1.0) for shape in untrained_layers(task, candidate)]
    return workload_of(candidate, shapes, hardware, kept=kept_weights(shapes, candidate.sparsity))


def read_candidate(path: Path) -> Candidate:
    """Read the candidate in a JSON file, which may hold it alone or be the output of `search best --json`.

    Raises:
        UsageError: If the file cannot be read or holds none.
    """
    content = _read(path)
    return _in_file(path, lambda: Candidate.from_dict(_candidate_in(content)).canonical())


def _in_file(path: Path, read: Callable[[], T]) -> T:
    """Read something from a file, and begin errors with the file's name."""
    try:
        return read()
    except (ValueError, LookupError) as error:  # the bases of all packages' errors about values
        raise UsageError(f"{path}: {error}") from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _workload_in(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the workload that a file holds instead of a candidate, or None."""
    if isinstance(content.get("candidate"), Mapping):
        return None
    inner = content.get("workload")
    return inner if isinstance(inner, Mapping) else content if "layers" in content else None


def _candidate_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the candidate itself: the file may hold it, a record of it, or the output of `search best --json`."""
    for key in ("best", "candidate"):
        inner = content.get(key)
        if isinstance(inner, Mapping):
            content = inner
    return content
