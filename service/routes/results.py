"""Stored results, and the hardware and multipliers to choose from."""

from __future__ import annotations

import json
from contextlib import suppress
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
)
from search.answers.confirmation import Answer
from search.answers.energy import score_candidate, stored_workload
from search.answers.result import knee
from search.answers.stored import stored_alone
from search.defaults import DEFAULT_DROP, DEFAULT_HARDWARE
from search.errors import UnknownNameError, UsageError
from search.multipliers.choice import MULTIPLIERS
from search.report import json_values
from search.space.candidate import Candidate
from search.space.task import Task
from search.space.techniques import TECHNIQUES
from search.store.records import Record
from search.store.setup import Setup
from service.checks import hardware_named, task_named
from service.dependencies import Caller, CallerDep, Services, ServicesDep, needs
from service.keys import Scope
from service.limits import StrictRoute
from service.problems import ProblemError, responses
from service.questions import Question
from service.schemas import (
    Configuration,
    EnergyRequest,
    EnergyResponse,
    EvaluationSchema,
    FrontQuery,
    FrontSchema,
    HardwareSchema,
    HardwareUpload,
    MultiplierSchema,
    MultiplierUpload,
    OptimizeResponse,
    TechniquesQuery,
    TechniquesSchema,
)
from service.uploads import UploadedMultiplier, Uploads

_BITS = 8

router = APIRouter(tags=["results"], dependencies=[Depends(needs(Scope.READ))], route_class=StrictRoute)


@router.get("/fronts/{dataset:path}", responses=responses(401, 403, 404, 422, 503))
def get_front(
    services: ServicesDep, caller: CallerDep, dataset: str, query: Annotated[FrontQuery, Query()]
) -> FrontSchema:
    """The front of the stored configurations: those that no other beats in both accuracy and energy.

    Each has its verdict: whether stored fresh runs confirm or reject it at the target. No search is started.
    """
    task = task_named(dataset, services, caller, status=404, pointer="dataset")
    hardware_named(query.hardware, services.uploads, pointer="hardware")
    question = _question(task, query)
    stored = services.answers.stored(question)
    baseline, configurations, answer = None, [], None
    if stored.baseline is not None:
        found = stored.answer(question.target)
        every = query.min_accuracy is None and query.max_accuracy_drop is None
        records = [one for one in stored.front if every or found.verdict(one) is not None]
        if query.select == "cheapest":
            records = [] if found.record is None else [found.record]
        elif query.select == "knee" and records:
            records = [knee(records)]
        baseline = _configuration(stored.baseline, found)
        configurations = [_configuration(record, found) for record in records]
        content = services.answers.to(question)
        answer = None if content is None else OptimizeResponse.model_validate_json(content.content)
    return FrontSchema(
        dataset=task.identity,
        hardware=query.hardware,
        effort=query.effort,
        baseline=baseline,
        configurations=configurations,
        answer=answer,
    )


@router.get("/techniques/{dataset:path}", responses=responses(401, 403, 404, 422, 503))
def get_techniques(
    services: ServicesDep, caller: CallerDep, dataset: str, query: Annotated[TechniquesQuery, Query()]
) -> TechniquesSchema:
    """What each technique achieves alone: stored configurations that differ from the baseline in it only.

    A target chooses none of them; it decides their verdicts.
    """
    task = task_named(dataset, services, caller, status=404, pointer="dataset")
    hardware = hardware_named(query.hardware, services.uploads, pointer="hardware")
    setup = Setup.of(task, hardware, query.effort)
    baseline = services.store.evaluations.of_candidate(task.space.baseline(), setup)
    found: dict[str, list[Configuration]] = {technique: [] for technique in TECHNIQUES}
    if baseline is not None:
        question = _question(task, query)
        stored = services.answers.stored(question)
        answer = stored.answer(question.target)
        alone = stored_alone(
            services.store,
            setup,
            baseline,
            tried=stored.tried,
            without_multipliers=services.uploads.unnamed_multipliers(query.multipliers),
        )
        found = {name: [_configuration(one, answer) for one in records] for name, records in alone.items()}
    return TechniquesSchema(dataset=task.identity, hardware=query.hardware, effort=query.effort, techniques=found)


@router.get("/evaluations/{evaluation_id}", responses=responses(401, 403, 404, 422, 503))
def get_evaluation(services: ServicesDep, evaluation_id: str) -> EvaluationSchema:
    """A stored evaluation, by the first digits of its key."""
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
    """A stored evaluation as a file for `search energy --candidate` and `search run --start`."""
    found = _evaluation(services, evaluation_id)
    content = json.dumps(found.model_dump(mode="json"), indent=2)
    headers = {"Content-Disposition": f'attachment; filename="{found.dataset}-{found.id}.json"'}
    return Response(content, media_type="application/json", headers=headers)


@router.post("/energy", responses=responses(400, 401, 403, 413, 415, 422, 503))
def estimate_energy(services: ServicesDep, caller: CallerDep, body: EnergyRequest) -> EnergyResponse:
    """The modelled energy of any candidate, trained or not."""
    task = task_named(body.dataset, services, caller, pointer="#/dataset")
    if task.network is not None:
        raise ProblemError(
            422,
            f"{task.words}: the service builds no custom networks; GET /v1/evaluations has the energy of stored ones",
            pointer="#/dataset",
        )
    hardware = hardware_named(body.hardware, services.uploads, pointer="#/hardware")
    try:
        candidate = Candidate.from_dict(body.candidate).canonical()
        costs = services.uploads.costs(candidate.multipliers)
        scored = score_candidate(candidate, task, hardware, costs=costs)
    except (ValueError, LookupError, OverflowError) as error:  # bases of all packages' errors about wrong values
        raise ProblemError(422, str(error), pointer="#/candidate") from None
    estimated, saving = scored.report, scored.saving
    assert saving is not None
    return EnergyResponse(
        candidate=candidate.to_dict(),
        energy_pj=estimated.energy_pj,
        energy_low_pj=estimated.energy_band.low,
        energy_high_pj=estimated.energy_band.high,
        components_pj=estimated.components,
        layers_pj=estimated.layers,
        latency_us=estimated.latency_us,
        area_mm2=estimated.area_mm2.value,
        saving=saving.value,
    )


@router.get("/hardware", responses=responses(401, 403, 422, 503))
def list_hardware(services: ServicesDep) -> list[HardwareSchema]:
    """The hardware whose energy can be modelled."""
    return [_hardware(services.uploads.hardware(name)) for name in services.uploads.hardware_names()]


@router.post("/hardware", status_code=201, responses=responses(400, 401, 403, 413, 415, 422, 503))
def upload_hardware(services: ServicesDep, caller: CallerDep, body: HardwareUpload) -> HardwareSchema:
    """Upload custom hardware, which uses a built-in technology; the response contains its name here."""
    caller.needs(Scope.SUBMIT)
    try:
        return _hardware(services.uploads.add_hardware(body.yaml, client=caller.name))
    except (HardwareError, UsageError) as error:
        raise ProblemError(422, str(error), pointer="#/yaml") from None


@router.delete("/hardware/{name}", status_code=204, responses=responses(401, 403, 404, 409, 422, 503))
def delete_hardware(services: ServicesDep, caller: CallerDep, name: str) -> Response:
    """Delete hardware that you uploaded. Results for it are kept, and accessible again if it is uploaded again."""
    owner = services.uploads.owner_of_hardware(name)
    _check_deletable(services, caller, name, owner)
    services.uploads.delete_hardware(name)
    return Response(status_code=204)


@router.get("/multipliers", responses=responses(401, 403, 422, 503))
def list_multipliers(services: ServicesDep) -> list[MultiplierSchema]:
    """The multipliers whose energy is known."""
    return [*map(_built_in, CostTable().names), *map(_uploaded, services.uploads.multipliers())]


@router.post("/multipliers", status_code=201, responses=responses(400, 401, 403, 413, 415, 422, 503))
def upload_multiplier(services: ServicesDep, caller: CallerDep, body: MultiplierUpload) -> MultiplierSchema:
    """Upload a custom multiplier for searches to choose; the response contains its name here."""
    caller.needs(Scope.SUBMIT)
    added = services.uploads.add_multiplier(
        body.name,
        body.table,
        signed=body.signed,
        relative_energy=body.relative_energy,
        relative_area=body.relative_area,
        client=caller.name,
    )
    return _uploaded(added)


@router.delete("/multipliers/{name}", status_code=204, responses=responses(401, 403, 404, 409, 422, 503))
def delete_multiplier(services: ServicesDep, caller: CallerDep, name: str) -> Response:
    """Delete a multiplier that you uploaded. Results with it are kept."""
    owner = None
    with suppress(UnknownNameError):
        owner = services.uploads.multiplier(name).client
    _check_deletable(services, caller, name, owner)
    services.uploads.delete_multiplier(name)
    return Response(status_code=204)


def _check_deletable(services: Services, caller: Caller, name: str, owner: str | None) -> None:
    """Check that an upload is the caller's own, and that no job needs it.

    Raises:
        ProblemError: 404 if there is none, 403 if it is another client's, 409 if a waiting or running job names it.
    """
    caller.needs(Scope.SUBMIT)
    if owner is None:
        raise ProblemError(404, f"nobody uploaded {name!r}", pointer="name")
    if owner != caller.name and caller.scope < Scope.ADMIN:
        raise ProblemError(403, f"{name!r} is another client's; deleting it requires a key with the scope admin")
    for job in services.queue.under_way():
        if name == job.question.hardware or name in job.question.uploaded_multipliers:
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
        source=one.source,
        doubts=list(one.doubts),
    )


def _built_in(name: str) -> MultiplierSchema:
    chosen = name in MULTIPLIERS
    try:
        cost = CostTable().cost(name, weight_bits=_BITS, activation_bits=_BITS)
    except WorkloadError:  # it does not support 8 bits
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


def _question(task: Task, query: TechniquesQuery) -> Question:
    """The question that the target of a query asks of the stored results."""
    drop = query.max_accuracy_drop
    return Question(
        dataset=task.identity,
        min_accuracy=query.min_accuracy,
        max_accuracy_drop=DEFAULT_DROP if query.min_accuracy is None and drop is None else drop,
        max_area=query.max_area if isinstance(query, FrontQuery) else None,
        hardware=query.hardware,
        effort=query.effort,
        multipliers=tuple(query.multipliers),
    )


def _configuration(record: Record, answer: Answer) -> Configuration:
    return Configuration.model_validate(json_values.row_json(record, answer))


def _evaluation(services: ServicesDep, evaluation_id: str) -> EvaluationSchema:
    try:
        record = services.store.evaluations.with_id(evaluation_id)
    except UnknownNameError as error:
        raise ProblemError(404, str(error), pointer="evaluation_id") from None
    task, hardware = services.store.tasks.find(record.setup.task), record.setup.hardware
    network = task.network
    baseline = services.store.evaluations.of_candidate(task.space.baseline(), record.setup)
    content: dict[str, Any] = json_values.record_json(record, baseline or record)
    if baseline is None:
        content["saving"] = content["area_ratio"] = None
    content |= {
        "task": task.identity,
        "dataset": task.dataset.identity,
        "network": None if network is None else network.path,
        "hardware": hardware,
    }
    return EvaluationSchema.model_validate({**content, "layers_pj": _layers(record, hardware, services.uploads)})


def _layers(record: Record, hardware: str, uploads: Uploads) -> dict[str, dict[str, float]] | None:
    """The energy of a stored evaluation by layer and component; None if that is no longer known."""
    try:
        loaded_hardware = uploads.hardware(hardware)
    except UnknownNameError:
        return None
    costs = uploads.costs(record.evaluation.candidate.multipliers)
    with suppress(EnergyError):  # the cost of a multiplier is no longer known
        return estimate(stored_workload(record, loaded_hardware), loaded_hardware, costs=costs).layers
    return None
