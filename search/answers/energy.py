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
from search.evaluation.workload import on_hardware, workload_of
from search.locations import storage_url
from search.multipliers.choice import register_stored_cost
from search.multipliers.costs import register_own_costs
from search.space.candidate import Candidate
from search.space.task import Task, find_task, stored_task
from search.store.store import Record, Store

if TYPE_CHECKING:
    from approx import LayerShape

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
) -> Scored:
    """The energy of a stored evaluation, or of a candidate or workload in a file.

    Args:
        source: The beginning of a stored evaluation's key; or the path of a JSON file that holds a candidate, anything
            with one under the key `candidate` (such as `search best --json` prints under `best`), or a workload as
            `energy.Workload.to_dict` makes it, itself or under the key `workload`.
        hardware: A name from `energy.hardware_names()`, or the path of a YAML file; by default what the evaluation was
            made for, or else the default.
        dataset: Of a candidate in a file: decides the image's size.
        network: Of a candidate in a file: the import path of your own network.
        storage: Results database; see `search.locations.storage_url`.

    Raises:
        UsageError: If the source cannot be read or found, or was evaluated on hardware that is not known here.
        energy.EnergyError: If the hardware is unknown, or cannot run it.
        StorageError: If the database does not exist or cannot be used.
    """
    path = Path(source)
    if not path.suffix and not path.exists():
        return _score_stored(source, hardware, storage)
    content = _read(path)
    register_own_costs()
    platform = energy.load_hardware(hardware or "weight-stationary-45nm")
    own = _workload_in(content)
    if own is not None:
        workload = _in_file(path, lambda: energy.Workload.from_dict(own))
        return Scored(
            title=path.name,
            candidate=None,
            workload=workload,
            hardware=platform,
            report=_in_file(path, lambda: energy.estimate(workload, platform)),
            baseline=None,
            notes=(_NO_BASELINE,),
        )
    candidate = read_candidate(path)
    task = find_task(dataset)
    if network is not None:
        from search.space.custom_network import find_network

        task = task.with_network(
            find_network(network, folder=str(Path.cwd()), image_shape=task.image_shape, classes=task.classes)
        )
    return _in_file(path, lambda: score_candidate(candidate, task, platform, title=path.name))


def score_candidate(candidate: Candidate, task: Task, hardware: energy.Hardware, *, title: str = "candidate") -> Scored:
    """The energy of a candidate that was never trained.

    Args:
        candidate: In canonical form.
        task: Of what: decides the size of the image, and what the baseline is.
        hardware: What runs it.
        title: What to call it.

    Raises:
        UsageError: If there is no such network, or no such multiplier any more.
        energy.EnergyError: If the hardware cannot run it.
    """
    register_own_costs()
    for multiplier in candidate.multipliers:
        register_stored_cost(multiplier)
    workload = _untrained(candidate, task, hardware)
    return Scored(
        title=title,
        candidate=candidate,
        workload=workload,
        hardware=hardware,
        report=energy.estimate(workload, hardware),
        baseline=energy.estimate(_untrained(task.space.baseline(), task, hardware), hardware),
        notes=(_DENSE,),
    )


def stored_workload(record: Record, hardware: energy.Hardware) -> energy.Workload:
    """The workload of a stored evaluation, at the voltage that its candidate means on some hardware.

    Raises:
        UsageError: If an older version made the evaluation, and kept no workload.
    """
    content = record.evaluation.workload
    if content is None:
        raise UsageError(
            f"evaluation {record.id} was made by an older version, which did not keep its layers; search again to "
            "evaluate it anew"
        )
    for multiplier in record.evaluation.candidate.multipliers:
        register_stored_cost(multiplier)
    return on_hardware(energy.Workload.from_dict(content), record.evaluation.candidate, hardware)


def _score_stored(evaluation_id: str, hardware: str | None, storage: str | None) -> Scored:
    with Store.open(storage_url(storage), create=False) as store:
        record, identity, evaluated_on = store.evaluation_with_id(evaluation_id)
        task = stored_task(identity)
        baseline = store.evaluation_of(
            task.space.baseline(), task=identity, hardware=evaluated_on, effort=record.effort
        )
    if hardware is None and evaluated_on not in energy.hardware_names():
        raise UsageError(
            f"evaluation {record.id} was made for {evaluated_on}, which does not come with the package; give its file, "
            "or other hardware, with --hardware"
        )
    platform = energy.load_hardware(hardware or evaluated_on)
    workload = stored_workload(record, platform)
    return Scored(
        title=record.id,
        candidate=record.evaluation.candidate,
        workload=workload,
        hardware=platform,
        report=energy.estimate(workload, platform),
        baseline=None if baseline is None else energy.estimate(stored_workload(baseline, platform), platform),
        notes=(
            *(() if baseline else ("Its baseline was not evaluated by this version.",)),
            *((_OTHER_HARDWARE.format(evaluated_on),) if platform.identity != evaluated_on else ()),
        ),
    )


def _untrained(candidate: Candidate, task: Task, hardware: energy.Hardware) -> energy.Workload:
    """The workload of a candidate whose network was never trained: its shapes are known, its activations are not."""
    import torch

    import approx
    from search.space.custom_network import build_own_network

    if task.network is not None:
        model = build_own_network(
            task.network,
            depth=candidate.depth,
            width=candidate.width,
            image_shape=task.image_shape,
            classes=task.classes,
            seed=0,
        )
    else:
        architecture = approx.Architecture(family=candidate.family, depth=candidate.depth, width=candidate.width)
        model = approx.build_network(architecture, image_shape=task.image_shape, classes=task.classes, seed=0)
    shapes: list[LayerShape] = [
        replace(shape, input_density=1.0) for shape in approx.trace(model, torch.zeros(1, *task.image_shape))
    ]
    kept = {}
    if candidate.sparsity:
        weights = {name: layer.weight for name, layer in approx.weight_layers(model)}
        masks = approx.magnitude_masks(weights, candidate.sparsity)
        kept = {name: int(mask.sum()) for name, mask in masks.items()}
    return workload_of(candidate, shapes, hardware, kept=kept)


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
