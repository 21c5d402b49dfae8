"""Requests and responses of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search.defaults import DEFAULT_BUDGET, DEFAULT_DROP, DEFAULT_EFFORT, DEFAULT_HARDWARE
from service.job_state import JobState

MinAccuracy = Annotated[float, Field(gt=0, le=1, description="Accuracy to reach, as a fraction")]
MaxAccuracyDrop = Annotated[float, Field(ge=0, lt=1, description="Largest drop below the baseline's, as a fraction")]
MaxArea = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False, description="Largest area of array and memories, as a ratio to the baseline's"),
]
Share = Annotated[float, Field(ge=0, le=1)]
Effort = Literal["quick", "standard", "thorough"]
Space = Literal["default", "layered"]
Verdict = Literal["confirmed", "rejected", "untried"]
SHOWN_CLASSES = 100  # whose names lists of data sets show


class OptimizeRequest(BaseModel):
    """A data set, one of the two accuracy targets, a bound on area, and the settings of a search if one is needed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"dataset": "mnist", "min_accuracy": 0.98},
                {"dataset": "digits", "max_accuracy_drop": 0.02, "budget": 100},
            ]
        },
    )

    dataset: str = Field(max_length=100, description="Name or identity, see GET /v1/datasets and /v1/tasks")
    min_accuracy: MinAccuracy | None = None
    max_accuracy_drop: MaxAccuracyDrop | None = None
    max_area: MaxArea | None = None
    budget: int = Field(default=DEFAULT_BUDGET, ge=1, description="Number of evaluations of a search")
    hardware: str = Field(default=DEFAULT_HARDWARE, max_length=100, description="See GET /v1/hardware")
    space: Space = Field(default="default", description="Search space")
    effort: Effort = Field(default=DEFAULT_EFFORT, description="How thoroughly each evaluation trains and measures")
    multipliers: list[Annotated[str, Field(max_length=100)]] | None = Field(
        default=None,
        max_length=50,
        description="Multipliers that a search may choose, see GET /v1/multipliers; null for the default ones",
    )
    seed: int = Field(default=0, ge=-(2**31), lt=2**31, description="Seed of a search; equal seeds find equal fronts")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.min_accuracy is None) == (self.max_accuracy_drop is None):
            raise ValueError("give one of min_accuracy and max_accuracy_drop")
        return self


class ConfirmationSchema(BaseModel):
    """Fresh runs of a configuration: retrained on different splits, and measured on images held out from each.

    Of a network that is converted without training, all runs are one measurement, which is bootstrapped.
    """

    confirmed: bool = Field(description="Whether its accuracy reaches the target with 97.5 % confidence")
    runs: int
    retrained: bool = Field(description="Whether each run retrained it; otherwise they are one measurement")
    images: int = Field(description="Number of different images on which it was measured")
    chips: int = Field(description="Number of chips on which it was measured")
    accuracy: Share = Field(description="Mean over the runs")
    accuracy_standard_error: float
    accuracy_lower_bound: float
    margin_lower_bound: float = Field(description="Lower bound of the margin above the target, or negative")
    test_accuracy: Share = Field(description="Mean on the test images, which no decision was based on")
    test_class_accuracies: list[Share | None] = Field(
        description="The same for each class, in their order; null for a class without test images"
    )


class Configuration(BaseModel):
    """A stored evaluation."""

    id: str = Field(description="First digits of the evaluation's key")
    candidate: dict[str, Any] = Field(description="The values chosen for each technique")
    accuracy: Share = Field(description="Mean over chips on validation images")
    accuracy_standard_error: float = Field(description="Over images and chips, not over trainings")
    accuracy_worst_chip: Share
    test_accuracy: Share | None = Field(description="Mean over chips on test images, if measured")
    test_accuracy_worst_chip: Share | None
    energy_pj: float = Field(description="Modelled energy of one inference")
    saving: float = Field(description="Energy of the baseline divided by this energy")
    energy_low_pj: float = Field(description="With the low estimates of energies per action")
    energy_high_pj: float = Field(description="With the high estimates of energies per action")
    components_pj: dict[str, float]
    latency_us: float
    area_mm2: float
    area_ratio: float = Field(description="Area relative to the baseline's")
    macs: int
    density: float
    seed: int
    effort: str
    seconds: float = Field(description="Duration of the evaluation")
    cpu_seconds: float
    joules: float | None
    saving_right_sized: float | None = Field(
        default=None,
        description="Energy of the right-sized network divided by this energy; null where no target was asked for",
    )
    verdict: Verdict | None = Field(
        default=None,
        description="What stored fresh runs say of it at the target; null if it does not reach the target in its "
        "search, or where no target was asked for",
    )
    confirmation: ConfirmationSchema | None = Field(
        default=None, description="In answers: the result of its fresh runs against the target, if there are any"
    )


class EvaluationSchema(Configuration):
    """A stored evaluation, with its data set and hardware."""

    saving: float | None = Field(description="Null if its baseline is not stored")  # type: ignore[assignment]
    area_ratio: float | None = Field(description="Null if its baseline is not stored")  # type: ignore[assignment]
    task: str = Field(description="Identity of its task: that of the data set, unless the network is a custom one")
    dataset: str
    network: str | None = Field(description="Import path of a custom network; null for the built-in ones")
    hardware: str
    layers_pj: dict[str, dict[str, float]] | None = Field(
        description="Energy by layer and component; null if the hardware is no longer stored"
    )


class OptimizeResponse(BaseModel):
    """The stored configurations that reach the target, cheapest first."""

    dataset: str = Field(description="Identity of the data set or task")
    hardware: str
    effort: str
    min_accuracy: float | None
    max_accuracy_drop: float | None
    max_area: float | None
    wanted_accuracy: float = Field(description="Absolute accuracy of the target, as measured in searches")
    confirmed: bool = Field(description="Whether fresh runs confirmed the first configuration")
    shortfall: float | None = Field(description="How far its lower bound is below the target; null without fresh runs")
    caution: str | None = Field(description="What the accuracies cannot know; null if nothing")
    baseline: Configuration
    right_sized: Configuration = Field(
        description="The cheapest dense, exact, 8-bit network at nominal voltage that reaches the target, and is not "
        "rejected; the baseline if there is no other. Without a confirmation, it was chosen by its own measurement"
    )
    highest_accuracy: Share = Field(description="Highest accuracy of any stored configuration within max_area")
    configurations: list[Configuration] = Field(
        description="The answer, then the rest of the front above the target, cheapest first; empty if nothing "
        "stored reaches it"
    )
    untried: list[Configuration] = Field(description="Cheaper ones without fresh runs")
    rejected: list[Configuration] = Field(description="Those that fresh runs did not confirm")


class JobSchema(BaseModel):
    """A requested search."""

    id: str
    state: JobState
    cancelling: bool = Field(description="Whether its worker is to cancel it as soon as it can")
    request: OptimizeRequest
    evaluations: int = Field(description="Evaluations made so far, of request.budget")
    search: str | None = Field(description="Name of its search, as `search show` takes it")
    confirmed: bool | None = Field(description="Whether its answer is confirmed; null until it is finished")
    error: str | None
    may_change: bool = Field(description="Whether the caller may cancel, resume and delete it")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    links: dict[str, str]
    best_known: OptimizeResponse | None = Field(default=None, description="The best stored answer, confirmed or not")


class JobQuery(BaseModel):
    """Parameters of a list of jobs."""

    model_config = ConfigDict(extra="forbid")

    state: JobState | None = None
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, pattern=r"^\d{1,9}$", description="`next` of the previous page")


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobSchema]
    next: str | None = Field(description="Cursor of the next page; null on the last page")


class Health(BaseModel):
    """The state of the process."""

    status: Literal["ok"]
    version: str
    keys_required: bool = Field(description="Whether requests need a key, created by `search keys create`")


class Readiness(BaseModel):
    """Whether the service can answer and run searches."""

    status: Literal["ready", "degraded"]
    database: Literal["ok"]
    workers: int = Field(description="Workers seen in the last 30 seconds; without one, jobs wait")
    schema_version: str


class DatasetSchema(BaseModel):
    """A data set that can be searched."""

    name: str = Field(description="Requests may name it so; several data sets may have the same name")
    identity: str = Field(description="What results call it: the name, or NAME@DIGEST if it is not built in")
    title: str
    image_shape: tuple[int, int, int] = Field(description="Channels, height and width")
    classes: int
    class_names: list[str] = Field(description=f"In the order of their labels; the first {SHOWN_CLASSES} of many")
    counts: dict[str, int] = Field(description="Images for train, validation and test, or all if it is not split")
    uploaded: bool = Field(description="Whether a client uploaded it")
    may_delete: bool = Field(description="Whether the caller may delete it")


class TaskSchema(BaseModel):
    """A task with stored results: a data set with a network and a training of its own, or a data set alone."""

    identity: str = Field(description="Requests name it so as their dataset")
    words: str = Field(description="The data set, and what is not as by default")
    dataset: str = Field(description="Identity of the data set")
    network: str | None = Field(description="Import path of a custom network; null for the built-in ones")
    train: Literal["scratch", "finetune", "none"] = Field(description="What is done with a network that comes trained")
    metric: Literal["accuracy", "balanced-accuracy"]


class DatasetQuery(BaseModel):
    """Parameters of an upload of images."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=60, description="Its name: letters, digits, '.', '_' and '-'")
    class_names: list[Annotated[str, Field(max_length=100)]] = Field(
        default=[],
        max_length=1000,
        description="Names of the classes, in the order of their labels; by default the labels themselves",
    )


class HardwareSchema(BaseModel):
    """Hardware whose energy can be modelled."""

    name: str
    technology_nm: float
    dataflow: str
    array: tuple[int, int] = Field(description="Rows and columns of processing elements")
    default: bool
    uploaded: bool = Field(description="Whether a client uploaded it")


class HardwareUpload(BaseModel):
    """A hardware file."""

    model_config = ConfigDict(extra="forbid")

    yaml: str = Field(max_length=2**16, description="Text of the file; see docs/energy-model.md")


class MultiplierUpload(BaseModel):
    """A multiplier as its table, and its costs."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=50)
    table: list[Annotated[list[int], Field(max_length=256)]] = Field(
        max_length=256, description="Products, indexed [activation code, weight code]: 2^bits rows of 2^bits"
    )
    signed: bool = Field(default=False, description="Whether both operands are signed, in two's complement")
    relative_energy: float = Field(gt=0, le=100, description="Energy relative to the exact one of the same widths")
    relative_area: float = Field(gt=0, le=100, description="Area relative to the exact one of the same widths")


class MultiplierSchema(BaseModel):
    """A built-in or uploaded multiplier, with its costs relative to the exact 8-bit multiplier."""

    name: str = Field(description="Name; NAME@DIGEST if a client uploaded it")
    uploaded: bool = Field(description="Whether a client uploaded it")
    chosen_by_default: bool = Field(description="Whether searches may choose it by default")
    relative_energy: float | None = Field(description="Null if it does not support 8 bits")
    relative_area: float | None
    source: str | None
    doubts: list[str] = Field(
        default_factory=list, description="What looks wrong in an uploaded table, such as rows that begin at -128"
    )


class TechniquesQuery(BaseModel):
    """Parameters of the techniques of a data set."""

    model_config = ConfigDict(extra="forbid")

    min_accuracy: MinAccuracy | None = None
    max_accuracy_drop: MaxAccuracyDrop | None = Field(
        default=None, description=f"Instead of min_accuracy; {DEFAULT_DROP} if neither is given"
    )
    hardware: str = Field(default=DEFAULT_HARDWARE, max_length=100, description="See GET /v1/hardware")
    effort: Effort = DEFAULT_EFFORT
    multipliers: list[Annotated[str, Field(max_length=100)]] = Field(
        default=[],
        max_length=50,
        description="Uploaded multipliers to include; all others are left out, because their costs are unverified",
    )

    @model_validator(mode="after")
    def _at_most_one_target(self) -> Self:
        if self.min_accuracy is not None and self.max_accuracy_drop is not None:
            raise ValueError("give one of min_accuracy and max_accuracy_drop, or neither")
        return self


class FrontQuery(TechniquesQuery):
    """Parameters of a front. If it names a target, configurations that do not reach it are left out."""

    max_area: MaxArea | None = None
    select: Literal["all", "cheapest", "knee"] = Field(
        default="all", description="All configurations, the answer to the target, or the one at the knee"
    )


class FrontSchema(BaseModel):
    """The front of all stored configurations."""

    dataset: str = Field(description="Identity of the data set or task")
    hardware: str
    effort: str
    baseline: Configuration | None = Field(description="Null if nothing is stored yet")
    configurations: list[Configuration] = Field(description="In order of increasing energy")
    answer: OptimizeResponse | None = Field(
        description="The stored answer to the target, confirmed or not; null if nothing is stored yet"
    )


class TechniquesSchema(BaseModel):
    """The configurations of each technique alone."""

    dataset: str = Field(description="Identity of the data set or task")
    hardware: str
    effort: str
    techniques: dict[str, list[Configuration]] = Field(
        description="network, pruning, multiplier and memory, each with its front in order of increasing energy"
    )


class EnergyRequest(BaseModel):
    """A candidate whose energy is to be modelled."""

    model_config = ConfigDict(extra="forbid")

    dataset: str = Field(max_length=100, description="Name or identity, see GET /v1/datasets and /v1/tasks")
    candidate: dict[str, Any] = Field(description="In the form used by configurations; see docs/search-space.md")
    hardware: str = Field(default=DEFAULT_HARDWARE, max_length=100)


class EnergyResponse(BaseModel):
    """The modelled energy of one inference, without training: activations are assumed to be dense."""

    candidate: dict[str, Any] = Field(description="The candidate in canonical form")
    energy_pj: float
    energy_low_pj: float = Field(description="With the low estimates of energies per action")
    energy_high_pj: float = Field(description="With the high estimates of energies per action")
    components_pj: dict[str, float]
    layers_pj: dict[str, dict[str, float]] = Field(description="Energy by layer and component")
    latency_us: float
    area_mm2: float
    saving: float = Field(description="Energy of the baseline on the same hardware divided by this energy")


class FieldProblem(BaseModel):
    """An error in one field."""

    pointer: str = Field(description="JSON pointer to the field (RFC 6901), such as #/min_accuracy, or a parameter")
    detail: str


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = Field(default="about:blank", description="Always about:blank: the title names the kind of error")
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what can be done about it")
    errors: list[FieldProblem] | None = Field(default=None, description="The wrong fields, if any")
