"""The operations of the service, defined once for both `Client` and `AsyncClient`.

An operation is written as a method that returns a description of the request, a `Call`. The decorator `@operation`
turns it into one that sends the call: it returns the result from a `Client`, and an awaitable from an `AsyncClient`.
"""

from __future__ import annotations

import operator
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex, TypeVar

import httpx2

from search.defaults import DEFAULT_BUDGET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from service.client.calls import Call, Event, get, json_of, operation, path_of, post
from service.job_state import JobState
from service.schemas import (
    DatasetSchema,
    Effort,
    EnergyResponse,
    EvaluationSchema,
    FrontSchema,
    HardwareSchema,
    Health,
    JobPage,
    JobSchema,
    MultiplierSchema,
    OptimizeRequest,
    OptimizeResponse,
    Readiness,
    Space,
    TaskSchema,
    TechniquesSchema,
)

T = TypeVar("T")

_READING_S = 300.0  # which the service may take to read an upload


def _ask(
    path: str,
    request: OptimizeRequest,
    read: Callable[[httpx2.Response], T],
    *,
    idempotency_key: str | None = None,
    wait_s: int = 0,
    on_event: Callable[[Event], object] | None = None,
) -> Call[T]:
    headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
    if wait_s:
        headers["Prefer"] = f"wait={wait_s}"
    return Call(
        method="POST",
        path=path_of(path),
        read=read,
        body=request.model_dump(exclude_none=True),
        headers=headers,
        wait_s=wait_s,
        repeatable=True,
        on_event=on_event,
    )


def _answer_or_job(response: httpx2.Response) -> OptimizeResponse | JobSchema:
    return json_of(JobSchema)(response) if response.status_code == 202 else json_of(OptimizeResponse)(response)


class Operations:
    """The operations of the service."""

    @operation
    def optimize(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        max_accuracy_drop: float | None = None,
        max_area: float | None = None,
        budget: int = DEFAULT_BUDGET,
        hardware: str = DEFAULT_HARDWARE,
        space: Space = "default",
        effort: Effort = DEFAULT_EFFORT,
        multipliers: list[str] | None = None,
        seed: int = 0,
        on_event: Callable[[Event], object] = lambda event: None,
    ) -> Call[OptimizeResponse]:
        """The cheapest configuration for a target, by a search unless a confirmed one is stored.

        Args:
            dataset: A name from `datasets`.
            min_accuracy: Accuracy to reach, in (0, 1]. Give either this or `max_accuracy_drop`.
            max_accuracy_drop: Largest drop below the baseline's accuracy, in [0, 1).
            max_area: Largest area of array and memories over the baseline's, above 0; None for any.
            budget: Number of evaluations of a search.
            hardware: A name from `hardware`.
            space: Search space.
            effort: How thoroughly each evaluation trains and measures.
            multipliers: Multipliers that a search may choose, see `multipliers`; None for the default ones.
            seed: Seed of a search.
            on_event: Called with each event of the search; for an `AsyncClient` it may be a coroutine function.

        Returns:
            The answer: `confirmed` says whether fresh runs confirm it, and its `configurations` are empty if the search
            found none that reaches the target.

        Raises:
            pydantic.ValidationError: If an argument is invalid.
            JobFailedError: If the search fails, or somebody cancels it.
            JobDeletedError: If somebody deletes the job.
        """
        request = OptimizeRequest(
            dataset=dataset,
            min_accuracy=min_accuracy,
            max_accuracy_drop=max_accuracy_drop,
            max_area=max_area,
            budget=budget,
            hardware=hardware,
            space=space,
            effort=effort,
            multipliers=multipliers,
            seed=seed,
        )
        return _ask("optimize", request, json_of(OptimizeResponse), on_event=on_event)

    @operation
    def ask(
        self, request: OptimizeRequest, *, wait_s: int = 0, idempotency_key: str | None = None
    ) -> Call[OptimizeResponse | JobSchema]:
        """The answer if it is stored, else the job that searches for it.

        Args:
            request: Data set, target and settings of a search.
            wait_s: Seconds that the service may wait for the job, at most 60.
            idempotency_key: The same key and request create one job; by default each call has a new key.
        """
        return _ask("optimize", request, _answer_or_job, idempotency_key=idempotency_key, wait_s=wait_s)

    @operation
    def search(self, request: OptimizeRequest, *, idempotency_key: str | None = None) -> Call[JobSchema]:
        """Start a search, whatever is stored.

        Args:
            request: Data set, target and settings of the search.
            idempotency_key: The same key and request create one job; by default each call has a new key.
        """
        return _ask("jobs", request, json_of(JobSchema), idempotency_key=idempotency_key)

    @operation
    def jobs(self, *, state: JobState | None = None, limit: int = 20, cursor: str | None = None) -> Call[JobPage]:
        """Jobs, newest first.

        Args:
            state: Only jobs in this state.
            limit: Maximum number of jobs, up to 100.
            cursor: `next` of the previous page.
        """
        return get(JobPage, "jobs", query={"state": state, "limit": limit, "cursor": cursor})

    @operation
    def job(self, job_id: str) -> Call[JobSchema]:
        """The state of a job."""
        return get(JobSchema, "jobs", job_id)

    @operation
    def cancel(self, job_id: str) -> Call[JobSchema]:
        """Cancel a job; its evaluations are kept. Not repeated, because the service rejects a second attempt."""
        return Call(method="POST", path=path_of("jobs", job_id, "cancel"), read=json_of(JobSchema), repeatable=False)

    @operation
    def resume(self, job_id: str) -> Call[JobSchema]:
        """Resume a failed or cancelled job. Not repeated, like `cancel`."""
        return Call(method="POST", path=path_of("jobs", job_id, "resume"), read=json_of(JobSchema), repeatable=False)

    @operation
    def delete(self, job_id: str) -> Call[None]:
        """Delete a job that has ended."""
        return Call(method="DELETE", path=path_of("jobs", job_id), read=lambda response: None, repeatable=True)

    @operation
    def front(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        max_accuracy_drop: float | None = None,
        max_area: float | None = None,
        select: Literal["all", "cheapest", "knee"] = "all",
        hardware: str = DEFAULT_HARDWARE,
        effort: Effort = DEFAULT_EFFORT,
        multipliers: Sequence[str] = (),
    ) -> Call[FrontSchema]:
        """The front of the stored configurations: those that no other beats, each with what fresh runs say of it.

        No search is started. Without a target, verdicts are those for 2 points below the baseline.

        Args:
            dataset: A name from `datasets`.
            min_accuracy: The target; configurations that do not reach it are left out.
            max_accuracy_drop: Instead: the target as a loss relative to the baseline's accuracy.
            max_area: Only configurations of at most this area over the baseline's.
            select: All configurations, the answer to the target, or the one at the knee.
            hardware: A name from `hardware`.
            effort: Effort of the evaluations.
            multipliers: Uploaded multipliers to include.
        """
        query = {
            "min_accuracy": min_accuracy,
            "max_accuracy_drop": max_accuracy_drop,
            "max_area": max_area,
            "select": select,
            "hardware": hardware,
            "effort": effort,
            "multipliers": list(multipliers) or None,
        }
        return get(FrontSchema, "fronts", dataset, query=query)

    @operation
    def techniques(
        self,
        dataset: str,
        *,
        min_accuracy: float | None = None,
        max_accuracy_drop: float | None = None,
        hardware: str = DEFAULT_HARDWARE,
        effort: Effort = DEFAULT_EFFORT,
        multipliers: Sequence[str] = (),
    ) -> Call[TechniquesSchema]:
        """What each technique achieves alone, among the stored configurations; a target decides their verdicts."""
        query = {
            "min_accuracy": min_accuracy,
            "max_accuracy_drop": max_accuracy_drop,
            "hardware": hardware,
            "effort": effort,
            "multipliers": list(multipliers) or None,
        }
        return get(TechniquesSchema, "techniques", dataset, query=query)

    @operation
    def evaluation(self, evaluation_id: str) -> Call[EvaluationSchema]:
        """A stored evaluation, by the first digits of its key."""
        return get(EvaluationSchema, "evaluations", evaluation_id)

    @operation
    def export(self, evaluation_id: str) -> Call[bytes]:
        """A stored evaluation as a file for `search energy --candidate` and `search run --start`."""
        path = path_of("evaluations", evaluation_id, "export")
        return Call(method="GET", path=path, read=lambda response: response.content, repeatable=True)

    @operation
    def energy(
        self, candidate: Mapping[str, Any], *, dataset: str, hardware: str = DEFAULT_HARDWARE
    ) -> Call[EnergyResponse]:
        """The modelled energy of any candidate, trained or not.

        Args:
            candidate: In the form used by configurations; see docs/search-space.md.
            dataset: A name from `datasets`.
            hardware: A name from `hardware`.
        """
        return post(
            EnergyResponse, "energy", body={"dataset": dataset, "candidate": dict(candidate), "hardware": hardware}
        )

    @operation
    def datasets(self) -> Call[list[DatasetSchema]]:
        """The data sets that can be searched."""
        return get(list[DatasetSchema], "datasets")

    @operation
    def tasks(self) -> Call[list[TaskSchema]]:
        """The tasks of stored results, such as custom networks, which requests may name instead of a data set."""
        return get(list[TaskSchema], "tasks")

    @operation
    def upload_dataset(
        self, archive: bytes | str | os.PathLike[str], *, name: str, class_names: Sequence[str] = ()
    ) -> Call[DatasetSchema]:
        """Upload images for searches; the result contains their identity. The same images are stored once.

        Args:
            archive: An .npz archive, or its path; see docs/service.md.
            name: A name: letters, digits, '.', '_' and '-'.
            class_names: Names of the classes, in the order of their labels; by default the labels themselves.

        Raises:
            OSError: If the file cannot be read.
        """
        return Call(
            method="POST",
            path=path_of("datasets"),
            read=json_of(DatasetSchema),
            query={"name": name, "class_names": list(class_names) or None},
            content=archive if isinstance(archive, bytes) else Path(archive).read_bytes(),
            headers={"Content-Type": "application/octet-stream"},
            wait_s=_READING_S,
            repeatable=True,
        )

    @operation
    def delete_dataset(self, name: str) -> Call[None]:
        """Delete images that you uploaded, by name or identity, once no job needs them."""
        return Call(method="DELETE", path=path_of("datasets", name), read=lambda response: None, repeatable=True)

    @operation
    def hardware(self) -> Call[list[HardwareSchema]]:
        """The hardware whose energy can be modelled."""
        return get(list[HardwareSchema], "hardware")

    @operation
    def upload_hardware(self, yaml: str) -> Call[HardwareSchema]:
        """Upload custom hardware; the result contains its name here.

        Args:
            yaml: Text of a hardware file; see docs/energy-model.md.
        """
        return post(HardwareSchema, "hardware", body={"yaml": yaml})

    @operation
    def delete_hardware(self, name: str) -> Call[None]:
        """Delete hardware that you uploaded, once no job needs it."""
        return Call(method="DELETE", path=path_of("hardware", name), read=lambda response: None, repeatable=True)

    @operation
    def delete_multiplier(self, name: str) -> Call[None]:
        """Delete a multiplier that you uploaded, once no job needs it."""
        return Call(method="DELETE", path=path_of("multipliers", name), read=lambda response: None, repeatable=True)

    @operation
    def multipliers(self) -> Call[list[MultiplierSchema]]:
        """The multipliers whose energy is known."""
        return get(list[MultiplierSchema], "multipliers")

    @operation
    def upload_multiplier(
        self,
        name: str,
        table: Iterable[Iterable[SupportsIndex]],
        *,
        signed: bool = False,
        relative_energy: float,
        relative_area: float,
    ) -> Call[MultiplierSchema]:
        """Upload a custom multiplier for searches to choose; the result contains its name here.

        Args:
            name: A short name.
            table: Products, indexed [activation code, weight code], as lists or an array.
            signed: Whether both operands are signed, in two's complement.
            relative_energy: Energy relative to the exact multiplier of the same widths.
            relative_area: Area relative to the exact multiplier of the same widths.
        """
        body = {
            "name": name,
            "table": [[*map(operator.index, row)] for row in table],
            "signed": signed,
            "relative_energy": relative_energy,
            "relative_area": relative_area,
        }
        return post(MultiplierSchema, "multipliers", body=body)

    # The next three are not repeated, because their callers want to know the present state.

    @operation
    def health(self) -> Call[Health]:
        """Whether the service responds, and its version."""
        return Call(method="GET", path="/healthz", read=json_of(Health), repeatable=False)

    @operation
    def readiness(self) -> Call[Readiness]:
        """Whether its database responds, and the number of workers."""
        return Call(method="GET", path="/readyz", read=json_of(Readiness), repeatable=False)

    @operation
    def metrics(self) -> Call[str]:
        """Numbers of jobs, workers and results, in the text format of Prometheus."""
        return Call(method="GET", path="/metrics", read=lambda response: response.text, repeatable=False)
