"""Requests that name something unknown, or ask for too much."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.support.requests import assert_problem
from tests.support.uploads import archive, upload


@pytest.mark.parametrize(
    ("body", "words", "pointer"),
    [
        ({"dataset": "mnits", "min_accuracy": 0.9}, "did you mean 'mnist'", "#/dataset"),
        ({"min_accuracy": 0}, "greater than 0", "#/min_accuracy"),
        ({"min_accuracy": 1.1}, "less than or equal to 1", "#/min_accuracy"),
        ({}, "give one of min_accuracy and max_accuracy_drop", "#"),
        ({"min_accuracy": 0.9, "max_accuracy_drop": 0.1}, "give one of", "#"),
        ({"min_accuracy": 0.9, "colour": "red"}, "Extra inputs are not permitted", "#/colour"),
        ({"min_accuracy": 0.9, "hardware": "tpu"}, "unknown hardware 'tpu'", "#/hardware"),
        ({"min_accuracy": 0.9, "hardware": "/etc/x.yaml"}, "unknown hardware", "#/hardware"),
        (
            {"min_accuracy": 0.9, "hardware": "row-stationary-65nm"},
            "its partial sums saturate at 16 bits, which is not emulated",
            "#/hardware",
        ),
        ({"min_accuracy": 0.9, "space": "/etc/x.yaml"}, "'default' or 'layered'", "#/space"),
        ({"min_accuracy": 0.9, "budget": 1001}, "budget may be at most 1000", "#/budget"),
        ({"min_accuracy": 0.9, "budget": 0}, "greater than or equal to 1", "#/budget"),
        ({"min_accuracy": 0.9, "seed": 2**40}, "less than", "#/seed"),
        ({"min_accuracy": 0.9, "max_area": 0}, "greater than 0", "#/max_area"),
        ({"min_accuracy": 0.9, "max_area": "half"}, "valid number", "#/max_area"),
        ({"max_area": 0.5}, "give one of min_accuracy and max_accuracy_drop", "#"),
        (
            {"min_accuracy": 0.9, "max_area": 0.1},
            "max_area is 0.1, but no candidate of the space needs less than 0.251 times the baseline's area; give that",
            "#/max_area",
        ),
        (
            {"min_accuracy": 0.9, "max_area": 0.1, "multipliers": ["exact"], "hardware": "hybrid-22nm"},
            "no candidate of the space needs less than 0.259",
            "#/max_area",
        ),
    ],
)
def test_bad_requests_are_explained(client: TestClient, body: dict[str, object], words: str, pointer: str) -> None:
    for path in ("/optimize", "/v1/jobs"):
        assert_problem(client.post(path, json={"dataset": "digits", **body}), 422, words, pointer)


def test_images_that_are_too_large_for_the_networks_are_refused_before_a_search(client: TestClient) -> None:
    content = archive(images=np.zeros((8, 257, 257), np.uint8), labels=np.arange(8) % 2)
    name = upload(client, content, name="large").json()["identity"]
    asked = {"dataset": name, "min_accuracy": 0.9}
    assert_problem(client.post("/optimize", json=asked), 422, "resize them to at most 256x256", "#/dataset")


def test_infinity_is_no_ratio_of_areas(client: TestClient) -> None:
    body = '{"dataset": "digits", "min_accuracy": 0.9, "max_area": 1e999}'
    response = client.post("/optimize", content=body, headers={"content-type": "application/json"})
    assert_problem(response, 422, "finite", "#/max_area")


def test_an_uploaded_multiplier_may_be_the_smallest(client: TestClient) -> None:
    table = [[0] * 8] * 8  # in wider circuits the logic for the sign alone is larger than an exact one of 2 bits
    mine = {"name": "tiny", "table": table, "signed": True, "relative_energy": 0.1, "relative_area": 0.001}
    name = client.post("/v1/multipliers", json=mine).json()["name"]
    asked = {"dataset": "digits", "min_accuracy": 1.0, "max_area": 0.253, "multipliers": ["exact"]}
    assert_problem(client.post("/optimize", json=asked), 422, "less than 0.256", "#/max_area")
    assert client.post("/optimize", json={**asked, "multipliers": ["exact", name]}).status_code == 202
