"""The energy of one candidate, layer by layer, on any hardware: without training anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import energy
from search.errors import UsageError
from search.evaluation.workload import kept_weights, on_hardware, workload_of
from search.locations import storage_url
from search.multipliers.folder import MultiplierFolder
from search.multipliers.known import stored_costs
from search.space.candidate import Candidate
from search.space.task import Task, stored_task
from search.space.task_request import searched_task
from search.store.database import Store
from search.store.records import Record

if TYPE_CHECKING:
    pass

T = TypeVar("T")

_DENSE = "Activations are taken to be dense: how many are zero is known of evaluated candidates only."
_OTHER_HARDWARE = "Its accuracy was measured for {}; other memory cells or formats may change which bits fail."
_NO_BASELINE = "A workload alone has no baseline; give a candidate to compare it with one."


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A candidate's energy on some hardware.

    Attributes:
        title: What was scored.
        candidate: It; None for a workload of one's own.
        workload: What was asked of the hardware.
        hardware: The hardware.
        report: Its energy.
        baseline: That of the baseline on the same hardware; None for a workload of one's own.
        notes: What a reader has to know.
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
        """How many times less energy than the baseline; None without one.

        Low and high are the extremes over every mix of the low and the high table: each component may be as cheap or as
        dear as it can be, in both alike.
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
    dataset: str = "digits",
    network: str | None = None,
    storage: str | None = None,
    folder: MultiplierFolder | None = None,
) -> Scored:
    """The energy of a stored evaluation, or of a candidate or workload in a file.

    Args:
        source: The beginning of a stored evaluation's key; or the path of a JSON file that holds a candidate, anything
            with one under the key `candidate` (such as `search best --json` prints under `best`), or a workload as
            `energy.Workload.to_dict` makes it, itself or under the key `workload`.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file; by default what the evaluation was
            made for, or else the default.
        dataset: Of a candidate in a file: decides the image's size.
        network: Import path of a custom network, for a candidate in a file.
        storage: Results database; see `search.locations.storage_url`.
        folder: Where imported multipliers are; by default the user's folder.

    Raises:
        UsageError: If the source cannot be read or found, or was evaluated on hardware that is not known here.
        energy.EnergyError: If the hardware is unknown, or cannot run it.
        StorageError: If the database does not exist or cannot be used.
    """
    path = Path(source)
    folder = folder or MultiplierFolder.default()
    if not path.suffix and not path.exists():
        return _score_stored(source, hardware, storage, folder)
    content = _read(path)
    loaded_hardware = energy.load_hardware(hardware or "weight-stationary-45nm")
    own = _workload_in(content)
    if own is not None:
        workload = _in_file(path, lambda: energy.Workload.from_dict(own))
        return Scored(
            title=path.name,
            candidate=None,
            workload=workload,
            hardware=loaded_hardware,
            report=_in_file(path, lambda: energy.estimate(workload, loaded_hardware)),
            baseline=None,
            notes=(_NO_BASELINE,),
        )
    candidate = read_candidate(path)
    task = searched_task(dataset, network)
    costs = stored_costs(candidate.multipliers, folder)
    return _in_file(path, lambda: score_candidate(candidate, task, loaded_hardware, costs=costs, title=path.name))


def score_candidate(
    candidate: Candidate, task: Task, hardware: energy.Hardware, *, costs: energy.CostTable, title: str = "candidate"
) -> Scored:
    """The energy of a candidate that was never trained.

    Args:
        candidate: In canonical form.
        task: Of what: decides the size of the image, and what the baseline is.
        hardware: What runs it.
        costs: Costs of its multipliers.
        title: What to call it.

    Raises:
        UsageError: If there is no such network, or no such multiplier any more.
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
        notes=(_DENSE,),
    )


def stored_workload(record: Record, hardware: energy.Hardware) -> energy.Workload:
    """The workload of a stored evaluation, at the voltage that its candidate means on some hardware."""
    return on_hardware(energy.Workload.from_dict(record.evaluation.workload), record.evaluation.candidate, hardware)


def _score_stored(evaluation_id: str, hardware: str | None, storage: str | None, folder: MultiplierFolder) -> Scored:
    with Store.open(storage_url(storage), create=False) as store:
        record = store.evaluations.with_id(evaluation_id)
        baseline = store.evaluations.of_candidate(stored_task(record.setup.task).space.baseline(), record.setup)
    evaluated_on = record.setup.hardware
    if hardware is None and evaluated_on not in energy.hardware_names():
        raise UsageError(
            f"evaluation {record.id} was made for {evaluated_on}, which does not come with the package; give its file, "
            "or other hardware, with `hardware`"
        )
    loaded_hardware = energy.load_hardware(hardware or evaluated_on)
    workload = stored_workload(record, loaded_hardware)
    costs = stored_costs(record.evaluation.candidate.multipliers, folder)
    return Scored(
        title=record.id,
        candidate=record.evaluation.candidate,
        workload=workload,
        hardware=loaded_hardware,
        report=energy.estimate(workload, loaded_hardware, costs=costs),
        baseline=None
        if baseline is None
        else energy.estimate(stored_workload(baseline, loaded_hardware), loaded_hardware, costs=costs),
        notes=(
            *(() if baseline else ("Its baseline is not stored.",)),
            *((_OTHER_HARDWARE.format(evaluated_on),) if loaded_hardware.identity != evaluated_on else ()),
        ),
    )


def _untrained(candidate: Candidate, task: Task, hardware: energy.Hardware) -> energy.Workload:
    """The workload of a candidate whose network was never trained: its shapes are known, its activations are not."""
    from search.evaluation.training import untrained_layers  # which brings torch

    shapes = [replace(shape, input_density=1.0) for shape in untrained_layers(task, candidate)]
    return workload_of(candidate, shapes, hardware, kept=kept_weights(shapes, candidate.sparsity))


def read_candidate(path: Path) -> Candidate:
    """The candidate in a JSON file, which may hold it alone or what `search best --json` prints.

    Raises:
        UsageError: If the file cannot be read or holds none.
    """
    content = _read(path)
    return _in_file(path, lambda: Candidate.from_dict(_candidate_in(content)).canonical())


def _in_file(path: Path, read: Callable[[], T]) -> T:
    """What a file holds, with its name before whatever is wrong with it."""
    try:
        return read()
    except (ValueError, LookupError) as error:  # which the errors of all packages are, where a value is wrong
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
    """The workload that a file holds instead of a candidate, if any."""
    if isinstance(content.get("candidate"), Mapping):
        return None
    inner = content.get("workload")
    return inner if isinstance(inner, Mapping) else content if "layers" in content else None


def _candidate_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The candidate itself: the file may hold it, a record of it, or what `search best --json` prints."""
    for key in ("best", "candidate"):
        inner = content.get(key)
        if isinstance(inner, Mapping):
            content = inner
    return content
