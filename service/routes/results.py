"""What is stored and what there is to choose from."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from energy import (
    CostTable,
    EnergyError,
    Hardware,
    HardwareError,
    WorkloadError,
    estimate,
    hardware_names,
    multiplier_cost,
)
from search.answers.confirmation import knee
from search.answers.energy import score_candidate, stored_workload
from search.answers.stored import stored_alone
from search.defaults import DEFAULT_HARDWARE
from search.errors import UnknownNameError, UsageError
from search.report import words as report
from search.space.candidate import Candidate
from search.space.search_space import MULTIPLIERS
from search.space.task import Task, find_task, stored_names, stored_task, task_names
from search.space.techniques import TECHNIQUES
from search.store.store import Record
from service.asking import hardware_named, task_named
from service.dependencies import Client, ClientDep, Services, ServicesDep, needs
from service.keys import Scope
from service.limits import StrictRoute
from service.problems import ProblemError, responses
from service.schemas import (
    Configuration,
    DatasetSchema,
    EnergyRequest,
    EnergyResponse,
    EvaluationSchema,
    FrontQuery,
    FrontSchema,
    HardwareSchema,
    HardwareUpload,
    MultiplierSchema,
    MultiplierUpload,
    TechniquesQuery,
    TechniquesSchema,
)
from service.uploads import UploadedMultiplier, Uploads

_BITS = 8

router = APIRouter(tags=["results"], dependencies=[Depends(needs(Scope.READ))], route_class=StrictRoute)


@router.get("/fronts/{dataset}", responses=responses(401, 403, 404, 422, 503))
def get_front(services: ServicesDep, dataset: str, query: Annotated[FrontQuery, Query()]) -> FrontSchema:
    """The stored configurations that no other beats in both accuracy and energy, not confirmed by fresh runs."""
    place, baseline = _place(services, dataset, query)
    records = []
    if baseline is not None:
        records = services.store.front(
            task=place.task.identity,
            hardware=place.hardware.identity,
            effort=query.effort,
            min_accuracy=query.min_accuracy,
            without_multipliers=services.uploads.unnamed_multipliers(query.multipliers),
        )
    if records and query.select != "all":
        records = records[:1] if query.select == "cheapest" else [knee(records)]
    return FrontSchema(
        dataset=dataset,
        hardware=query.hardware,
        effort=query.effort,
        baseline=None if baseline is None else _configuration(baseline, baseline),
        configurations=[] if baseline is None else [_configuration(record, baseline) for record in records],
    )


@router.get("/techniques/{dataset}", responses=responses(401, 403, 404, 422, 503))
def get_techniques(services: ServicesDep, dataset: str, query: Annotated[TechniquesQuery, Query()]) -> TechniquesSchema:
    """What each technique achieves alone: stored configurations that differ from the baseline by nothing else."""
    place, baseline = _place(services, dataset, query)
    found: dict[str, list[Configuration]] = {technique: [] for technique in TECHNIQUES}
    if baseline is not None:
        alone = stored_alone(
            services.store,
            place.task,
            place.hardware,
            baseline,
            effort=query.effort,
            without_multipliers=services.uploads.unnamed_multipliers(query.multipliers),
        )
        found = {name: [_configuration(one, baseline) for one in records] for name, records in alone.items()}
    return TechniquesSchema(dataset=dataset, hardware=query.hardware, effort=query.effort, techniques=found)


@router.get("/evaluations/{evaluation_id}", responses=responses(401, 403, 404, 422, 503))
def get_evaluation(services: ServicesDep, evaluation_id: str) -> EvaluationSchema:
    """One evaluation, by the first digits of its key."""
    return _evaluation(services, evaluation_id)


@router.get(
    "/evaluations/{evaluation_id}/export",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "A file"},
        **responses(401, 403, 404, 422, 503),
    },
)
def export_evaluation(services: ServicesDep, evaluation_id: str) -> Response:
    """The same as a file, which `search energy --candidate` and `search run --start` take."""
    found = _evaluation(services, evaluation_id)
    content = json.dumps(found.model_dump(mode="json"), indent=2)
    headers = {"Content-Disposition": f'attachment; filename="{found.dataset}-{found.id}.json"'}
    return Response(content, media_type="application/json", headers=headers)


@router.post("/energy", responses=responses(400, 401, 403, 413, 415, 422, 503))
def estimate_energy(services: ServicesDep, asked: EnergyRequest) -> EnergyResponse:
    """The energy of a candidate that need never have been trained."""
    task = task_named(asked.dataset, pointer="#/dataset")
    hardware = hardware_named(asked.hardware, services.uploads, pointer="#/hardware")
    try:
        candidate = Candidate.from_dict(asked.candidate).canonical()
        _register_costs(candidate, services.uploads)
        scored = score_candidate(candidate, task, hardware)
    except (
        ValueError,
        LookupError,
        OverflowError,
    ) as error:  # which the errors of all packages are, where a value is wrong
        raise ProblemError(422, str(error), pointer="#/candidate") from None
    report, saving = scored.report, scored.saving
    assert saving is not None
    return EnergyResponse(
        candidate=candidate.to_dict(),
        energy_pj=report.energy_pj,
        energy_low_pj=report.energy_band.low,
        energy_high_pj=report.energy_band.high,
        components_pj=report.components,
        layers_pj=report.layers,
        latency_us=report.latency_us,
        area_mm2=report.area_mm2.value,
        saving=saving.value,
    )


@router.get("/datasets", responses=responses(401, 403, 422))
def list_datasets() -> list[DatasetSchema]:
    """What can be searched."""
    tasks = [find_task(name) for name in task_names()]
    return [
        DatasetSchema(name=task.name, title=task.title, image_shape=task.image_shape, classes=task.classes)
        for task in tasks
    ]


@router.get("/hardware", responses=responses(401, 403, 422, 503))
def list_hardware(services: ServicesDep) -> list[HardwareSchema]:
    """What energy can be modelled for."""
    return [_hardware(services.uploads.hardware(name)) for name in services.uploads.hardware_names()]


@router.post("/hardware", status_code=201, responses=responses(400, 401, 403, 413, 415, 422, 503))
def upload_hardware(services: ServicesDep, client: ClientDep, brought: HardwareUpload) -> HardwareSchema:
    """Bring hardware of your own; what it is called here is in the response. Its technology is one that comes along."""
    client.needs(Scope.SUBMIT)
    try:
        return _hardware(services.uploads.add_hardware(brought.yaml, client=client.name))
    except (HardwareError, UsageError) as error:
        raise ProblemError(422, str(error), pointer="#/yaml") from None


@router.delete("/hardware/{name}", status_code=204, responses=responses(401, 403, 404, 409, 422, 503))
def delete_hardware(services: ServicesDep, client: ClientDep, name: str) -> Response:
    """Forget hardware that you brought. What was searched on it is kept, and there again once it is."""
    owner = services.uploads.owner_of_hardware(name)
    _check_unused(services, client, name, owner)
    services.uploads.delete_hardware(name)
    return Response(status_code=204)


@router.get("/multipliers", responses=responses(401, 403, 422, 503))
def list_multipliers(services: ServicesDep) -> list[MultiplierSchema]:
    """The multipliers whose energy is known."""
    brought = [_uploaded(one) for one in services.uploads.multipliers()]
    return [*map(_multiplier, CostTable().names), *brought]


@router.post("/multipliers", status_code=201, responses=responses(400, 401, 403, 413, 415, 422, 503))
def upload_multiplier(services: ServicesDep, client: ClientDep, brought: MultiplierUpload) -> MultiplierSchema:
    """Bring a multiplier of your own, for searches to choose; what it is called here is in the response."""
    client.needs(Scope.SUBMIT)
    return _uploaded(services.uploads.add_multiplier(**brought.model_dump(), client=client.name))


@router.delete("/multipliers/{name}", status_code=204, responses=responses(401, 403, 404, 409, 422, 503))
def delete_multiplier(services: ServicesDep, client: ClientDep, name: str) -> Response:
    """Forget a multiplier that you brought. What was searched with it is kept."""
    owner = None
    with suppress(UnknownNameError):
        owner = services.uploads.multiplier(name).client
    _check_unused(services, client, name, owner)
    services.uploads.delete_multiplier(name)
    return Response(status_code=204)


def _check_unused(services: Services, client: Client, name: str, owner: str | None) -> None:
    """Let clients delete what they brought, once no job needs it.

    Raises:
        ProblemError: 404 if nobody brought it, 403 if it is another client's, 409 if a job that is under way names it.
    """
    client.needs(Scope.SUBMIT)
    if owner is None:
        raise ProblemError(404, f"nobody brought {name!r}", pointer="name")
    if owner != client.name and client.scope < Scope.ADMIN:
        raise ProblemError(403, f"{name!r} is another client's; to delete it needs a key with the scope admin")
    for job in services.jobs.under_way():
        if name == job.question.hardware or name in job.question.own_multipliers:
            raise ProblemError(409, f"job {job.id} needs {name!r}; cancel it first")


def _hardware(one: Hardware) -> HardwareSchema:
    return HardwareSchema(
        name=one.identity,
        technology_nm=one.technology.node_nm,
        dataflow=one.dataflow,
        array=(one.array_rows, one.array_columns),
        default=one.identity == DEFAULT_HARDWARE,
        uploaded=one.identity not in hardware_names(),
    )


def _uploaded(one: UploadedMultiplier) -> MultiplierSchema:
    return MultiplierSchema(
        name=one.identity,
        uploaded=True,
        chosen_by_default=False,
        relative_energy=one.relative_energy,
        relative_area=one.relative_area,
        source=f"as {one.client} said when bringing it",
    )


def _register_costs(candidate: Candidate, uploads: Uploads) -> None:
    """Make the costs of multipliers that clients brought known to the energy model; it knows all others."""
    for name in candidate.multipliers:
        with suppress(UnknownNameError):
            uploads.multiplier(name).register_cost()


def _multiplier(name: str) -> MultiplierSchema:
    chosen = name in MULTIPLIERS
    try:
        cost = multiplier_cost(name, weight_bits=_BITS, activation_bits=_BITS)
    except WorkloadError:  # it has no eight bits
        return MultiplierSchema(
            name=name, uploaded=False, chosen_by_default=chosen, relative_energy=None, relative_area=None, source=None
        )
    return MultiplierSchema(
        name=name,
        uploaded=False,
        chosen_by_default=chosen,
        relative_energy=cost.relative_energy,
        relative_area=cost.relative_area,
        source=cost.source,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """What has a front of its own."""

    task: Task
    hardware: Hardware


def _place(services: Services, dataset: str, query: TechniquesQuery) -> tuple[_Place, Record | None]:
    """What a query is about, and its baseline; None if there was no search of it yet."""
    task = task_named(dataset, status=404, pointer="dataset")
    place = _Place(task, hardware_named(query.hardware, services.uploads, pointer="hardware"))
    baseline = services.store.evaluation_of(
        task.space.baseline(), task=task.identity, hardware=place.hardware.identity, effort=query.effort
    )
    return place, baseline


def _configuration(record: Record, baseline: Record) -> Configuration:
    return Configuration(**report.record_json(record, baseline))


def _evaluation(services: ServicesDep, evaluation_id: str) -> EvaluationSchema:
    try:
        record, task, hardware = services.store.evaluation_with_id(evaluation_id)
    except UnknownNameError as error:
        raise ProblemError(404, str(error), pointer="evaluation_id") from None
    dataset, network = stored_names(task)
    baseline = services.store.evaluation_of(
        stored_task(task).space.baseline(), task=task, hardware=hardware, effort=record.effort
    )
    content: dict[str, Any] = report.record_json(record, baseline or record)
    if baseline is None:
        content["saving"] = None
    return EvaluationSchema(
        **content,
        dataset=dataset,
        network=network,
        hardware=hardware,
        layers_pj=_layers(record, hardware, services.uploads),
    )


def _layers(record: Record, hardware: str, uploads: Uploads) -> dict[str, dict[str, float]] | None:
    """Where the energy of a stored evaluation goes; None if that cannot be known any more."""
    try:
        platform = uploads.hardware(hardware)
    except UnknownNameError:
        return None
    if record.evaluation.workload is None:
        return None
    _register_costs(record.evaluation.candidate, uploads)
    with suppress(EnergyError):  # a multiplier's cost is not known any more
        return estimate(stored_workload(record, platform), platform).layers
    return None
