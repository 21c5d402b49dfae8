"""Requests and responses of the API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class OptimizeRequest(BaseModel):
    """What is wanted."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"dataset": "mnist", "min_accuracy": 0.98}]}
    )

    dataset: str = Field(description="digits, mnist, fashion-mnist or cifar10")
    min_accuracy: float = Field(gt=0, le=1, description="Validation accuracy to reach, as a share")
    hardware: str = Field(default="weight-stationary-45nm", description="A hardware description by name")


class Configuration(BaseModel):
    """One stored evaluation."""

    id: str = Field(description="First digits of the evaluation's key")
    candidate: dict[str, Any] = Field(description="The choice for each technique")
    accuracy: float = Field(description="Mean over chips on validation images")
    accuracy_worst_chip: float
    test_accuracy: float | None = Field(description="Mean over chips on test images, where it was measured")
    test_accuracy_worst_chip: float | None
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


class OptimizeResponse(BaseModel):
    """The stored configurations that reach the accuracy."""

    dataset: str
    min_accuracy: float
    hardware: str
    confirmed: bool = Field(description="Whether fresh runs confirmed the accuracies; never, at present")
    baseline: Configuration
    configurations: list[Configuration] = Field(description="The front at or above the accuracy, cheapest first")


class Problem(BaseModel):
    """An error, after RFC 9457."""

    title: str
    status: int
    detail: str
