"""Requests and responses of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search.defaults import DEFAULT_BUDGET, DEFAULT_EFFORT, DEFAULT_HARDWARE
from service.job_state import JobState

MinAccuracy = Annotated[float, Field(gt=0, le=1, description="Accuracy to reach, as a share")]
MaxAccuracyDrop = Annotated[float, Field(ge=0, lt=1, description="How far below the baseline's it may be, as a share")]
Share = Annotated[float, Field(ge=0, le=1)]
Effort = Literal["quick", "standard", "thorough"]
Space = Literal["default", "layered"]


class OptimizeRequest(BaseModel):
    """What is wanted: a data set, one of the two targets, and how it is searched if it has to be."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"dataset": "mnist", "min_accuracy": 0.98},
                {"dataset": "digits", "max_accuracy_drop": 0.02, "budget": 100},
            ]
        },
    )

    dataset: str = Field(max_length=100, description="See GET /v1/datasets")
    min_accuracy: MinAccuracy | None = None
    max_accuracy_drop: MaxAccuracyDrop | None = None
    budget: int = Field(default=DEFAULT_BUDGET, ge=1, description="Evaluations of a search")
    hardware: str = Field(default=DEFAULT_HARDWARE, max_length=100, description="See GET /v1/hardware")
    space: Space = Field(default="default", description="What a search searches")
    effort: Effort = Field(default=DEFAULT_EFFORT, description="How much work each evaluation is")
    multipliers: list[Annotated[str, Field(max_length=100)]] | None = Field(
        default=None,
        max_length=50,
        description="What a search chooses among, see GET /v1/multipliers; null for the usual",
    )
    seed: int = Field(default=0, ge=-(2**31), lt=2**31, description="Of a search; the same finds the same front")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.min_accuracy is None) == (self.max_accuracy_drop is None):
            raise ValueError("give one of min_accuracy and max_accuracy_drop")
        return self


class ConfirmationSchema(BaseModel):
    """Fresh runs of a configuration: it was trained anew, on other splits, and measured on images held out."""

    confirmed: bool = Field(description="Whether its accuracy is, with 97.5 % confidence, not below the target")
    runs: int
    accuracy: Share = Field(description="Mean over the runs")
    accuracy_standard_error: float
    accuracy_lower_bound: float
    margin_lower_bound: float = Field(description="By how much it is above the target at least; negative if not")
    test_accuracy: Share = Field(description="Mean on the test images, by which nothing was decided")


class Configuration(BaseModel):
    """One stored evaluation."""

    id: str = Field(description="First digits of the evaluation's key")
    candidate: dict[str, Any] = Field(description="The choice for each technique")
    accuracy: Share = Field(description="Mean over chips on validation images")
    accuracy_standard_error: float | None = Field(description="Of other images and chips, not of another training")
    accuracy_worst_chip: Share
    test_accuracy: Share | None = Field(description="Mean over chips on test images, where it was measured")
    test_accuracy_worst_chip: Share | None
    energy_pj: float = Field(description="Modelled energy of one inference")
    saving: float = Field(description="How many times less energy than the baseline")
    energy_low_pj: float | None = Field(description="By the low table of energies per action")
    energy_high_pj: float | None = Field(description="By the high table")
    components_pj: dict[str, float]
    latency_us: float
    area_mm2: float | None
    macs: int
    density: float
    seed: int
    effort: str
    seconds: float = Field(description="Time that the evaluation took")
    cpu_seconds: float | None
    joules: float | None
    confirmation: ConfirmationSchema | None = Field(
        default=None, description="In answers: its fresh runs against the target, if there are any"
    )


class EvaluationSchema(Configuration):
    """One stored evaluation, with what it is of."""

    saving: float | None = Field(description="Null if its baseline is not stored")  # type: ignore[assignment]
    dataset: str
    network: str | None = Field(description="Import path of a network of one's own; null for the built-in ones")
    hardware: str
    layers_pj: dict[str, dict[str, float]] | None = Field(
        description="Energy layer by layer, component by component; null if the layers or the hardware are not kept"
    )


class OptimizeResponse(BaseModel):
    """The stored configurations that reach the target, cheapest first."""

    dataset: str
    hardware: str
    effort: str
    min_accuracy: float | None
    max_accuracy_drop: float | None
    wanted_accuracy: float = Field(description="The accuracy that the target comes to, by what searches measured")
    confirmed: bool = Field(description="Whether fresh runs confirmed the first configuration")
    shortfall: float | None = Field(description="By how much its lower bound misses; null without fresh runs")
    baseline: Configuration
    highest_accuracy: Share = Field(description="That any stored configuration reaches")
    configurations: list[Configuration] = Field(
        description="The answer, then the rest of the front above the target, cheapest first; empty if nothing "
        "stored reaches it"
    )
    untried: list[Configuration] = Field(description="Cheaper ones of which no fresh runs are made")
    rejected: list[Configuration] = Field(description="Ones that fresh runs did not confirm")


class JobSchema(BaseModel):
    """A search that was asked for."""

    id: str
    state: JobState
    cancelling: bool = Field(description="Whether it is to be cancelled as soon as its worker can")
    request: OptimizeRequest
    evaluations: int = Field(description="Made so far, of request.budget")
    search: str | None = Field(description="Name of its search, as `search show` takes it")
    confirmed: bool | None = Field(description="Whether its answer is confirmed; null until it is finished")
    error: str | None
    may_change: bool = Field(description="Whether you may cancel, resume and delete it")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    links: dict[str, str]
    best_known: OptimizeResponse | None = Field(
        default=None, description="What is stored already that reaches the target, confirmed or not"
    )


class JobQuery(BaseModel):
    """Which jobs are listed."""

    model_config = ConfigDict(extra="forbid")

    state: JobState | None = None
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, pattern=r"^\d{1,9}$", description="`next` of the page before")


class JobPage(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobSchema]
    next: str | None = Field(description="Cursor of the next page; null on the last")


class Health(BaseModel):
    """Whether the process answers, and what it is."""

    status: Literal["ok"]
    version: str
    keys_required: bool = Field(description="Whether requests need a key, as `search keys create` makes it")


class Readiness(BaseModel):
    """Whether the service can do its work."""

    status: Literal["ready", "degraded"]
    database: Literal["ok"]
    workers: int = Field(description="Heard of in the last half minute; without one, jobs wait")
    schema_version: str


class DatasetSchema(BaseModel):
    """What can be searched."""

    name: str
    title: str
    image_shape: tuple[int, int, int]
    classes: int


class HardwareSchema(BaseModel):
    """What energy is modelled for."""

    name: str
    technology_nm: float
    dataflow: str
    array: tuple[int, int] = Field(description="Rows and columns of processing elements")
    default: bool
    uploaded: bool = Field(description="Whether a client brought it")


class HardwareUpload(BaseModel):
    """A hardware file."""

    model_config = ConfigDict(extra="forbid")

    yaml: str = Field(max_length=2**16, description="Its text; see docs/energy-model.md")


class MultiplierUpload(BaseModel):
    """A multiplier's table, and what it costs."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=50)
    table: list[Annotated[list[int], Field(max_length=256)]] = Field(
        max_length=256, description="Its products, indexed [activation code, weight code]: 2^bits rows of 2^bits"
    )
    signed: bool = Field(default=False, description="Whether both operands are signed, in two's complement")
    relative_energy: float = Field(gt=0, le=100, description="Over that of the exact one of the same widths")
    relative_area: float = Field(gt=0, le=100, description="Likewise")


class MultiplierSchema(BaseModel):
    """A multiplier of the catalogue or of a client, with what it costs over the exact one of eight bits in a layer."""

    name: str = Field(description="Its identity, NAME@DIGEST, if a client brought it")
    uploaded: bool = Field(description="Whether a client brought it")
    chosen_by_default: bool = Field(description="Whether searches choose among it unless they are told otherwise")
    relative_energy: float | None = Field(description="Null where it has no eight bits")
    relative_area: float | None
    source: str | None


class TechniquesQuery(BaseModel):
    """What is compared."""

    model_config = ConfigDict(extra="forbid")

    hardware: str = Field(default=DEFAULT_HARDWARE, max_length=100, description="See GET /v1/hardware")
    effort: Effort = DEFAULT_EFFORT
    multipliers: list[Annotated[str, Field(max_length=100)]] = Field(
        default=[],
        max_length=50,
        description="Uploaded ones that configurations may have; others are left out, as what they cost is a claim",
    )


class FrontQuery(TechniquesQuery):
    """Which part of a front."""

    min_accuracy: float = Field(default=1e-9, gt=0, le=1, description="Only what reaches it")
    select: Literal["all", "cheapest", "knee"] = Field(
        default="all", description="All, or the one that is cheapest or at the knee"
    )


class FrontSchema(BaseModel):
    """The front of everything stored."""

    dataset: str
    hardware: str
    effort: str
    baseline: Configuration | None = Field(description="Null if there was no search of it yet")
    configurations: list[Configuration] = Field(description="By rising energy")


class TechniquesSchema(BaseModel):
    """What each technique achieves alone."""

    dataset: str
    hardware: str
    effort: str
    techniques: dict[str, list[Configuration]] = Field(
        description="network, pruning, multiplier and memory, each with its own front by rising energy"
    )


class EnergyRequest(BaseModel):
    """A candidate whose energy is asked for."""

    model_config = ConfigDict(extra="forbid")

    dataset: str = Field(max_length=100)
    candidate: dict[str, Any] = Field(description="As configurations have it; see docs/search-space.md")
    hardware: str = Field(default=DEFAULT_HARDWARE, max_length=100)


class EnergyResponse(BaseModel):
    """The modelled energy of one inference, without training: activations are taken to be dense."""

    candidate: dict[str, Any] = Field(description="In its canonical form")
    energy_pj: float
    energy_low_pj: float = Field(description="By the low table of energies per action")
    energy_high_pj: float = Field(description="By the high table")
    components_pj: dict[str, float]
    layers_pj: dict[str, dict[str, float]] = Field(description="Layer by layer, component by component")
    latency_us: float
    area_mm2: float
    saving: float = Field(description="How many times less than the baseline on the same hardware")


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    pointer: str = Field(description="JSON pointer to it (RFC 6901), such as #/min_accuracy; or the parameter's name")
    detail: str


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = Field(default="about:blank", description="The title says what kind it is")
    title: str
    status: int
    detail: str = Field(description="What was wrong, and what can be done about it")
    errors: list[FieldProblem] | None = Field(default=None, description="What is wrong with which field")
