import json
import re
from dataclasses import replace
from typing import Any

import pytest

from energy import LayerWorkload, Workload, WorkloadBatch, WorkloadError
from tests.support.networks import ALEXNET, LENET, convolution, fully_connected, workload


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nonzero_weights": 400001}, "nonzero_weights must be between 0 and inner * outputs = 400000, got 400001"),
        ({"nonzero_weights": -1}, "nonzero_weights must be between 0"),
        ({"positions": 0}, "layer 'fc1': positions must be at least 1, got 0"),
        ({"groups": 3}, "outputs must be a multiple of groups=3, got 500"),
        ({"kernel_height": 3}, "inner must be a multiple of kernel_height=3, got 800"),
        ({"kernel_height": 2, "kernel_width": 3}, "inner must be a multiple of the kernel's 2 x 3 weights, got 800"),
        ({"output_height": 2}, "positions must be a multiple of output_height=2, got 1"),
        ({"activation_density": 1.1}, "activation_density must be between 0 and 1, got 1.1"),
    ],
)
def test_layers_that_contradict_themselves_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=re.escape(message)):
        replace(LENET[2], **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ()}, "at least one layer"),
        ({"layers": (LENET[0], LENET[0])}, "layers need unique names, got 'conv1' more than once"),
        ({"weight_bits": 0}, "weight_bits must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"robust_bits": 9}, "robust_bits must be between 0 and weight_bits=8, got 9"),
        ({"weight_memory_v": 0.0}, "weight_memory_v must be positive, got 0.0"),
        (
            {"layers": (replace(LENET[0], robust_bits=9), LENET[1])},
            "layer 'conv1': robust_bits must be between 0 and weight_bits=8, got 9",
        ),
    ],
)
def test_workloads_that_contradict_themselves_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        replace(workload(*LENET), **change)


def test_a_workload_survives_json() -> None:
    work = workload(*ALEXNET, fully_connected("fc", 10, 5, nonzero=3), weight_bits=4, robust_bits=1, batch=2)
    again = Workload.from_dict(json.loads(json.dumps(work.to_dict())))
    assert again == work
    assert not {"multiplier", "robust_bits"} & work.to_dict()["layers"][0].keys()  # as before layers could have any
    layered = replace(work, layers=(replace(work.layers[0], multiplier="drum-4", robust_bits=0), *work.layers[1:]))
    assert Workload.from_dict(json.loads(json.dumps(layered.to_dict()))) == layered
    assert (again.matrix == work.matrix).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, "needs a list of layers under the key 'layers', got 3"),
        ({"layers": [3]}, "a layer must be an object of keys and values, got 3"),
        ({"layers": [{"name": "x"}]}, "a layer lacks the key 'positions'"),
        ({"weight_bits": "8"}, "the workload: weight_bits must be of type int, got '8'"),
        ({"weight_bits": True}, "the workload: weight_bits must be of type int, got True"),
        ({"volts": 1}, "the workload has an unknown key 'volts'; keys are layers, weight_bits"),
    ],
)
def test_json_that_is_not_a_workload_is_rejected(change: dict[str, Any], message: str) -> None:
    content = workload(*LENET).to_dict() | change
    with pytest.raises(WorkloadError, match=re.escape(message)):
        Workload.from_dict(content)


def test_what_json_may_leave_out() -> None:
    content = workload(fully_connected("fc", 4, 2)).to_dict()
    del content["batch"], content["layers"][0]["groups"]
    assert Workload.from_dict(content) == workload(fully_connected("fc", 4, 2))


def test_products_of_the_dense_network() -> None:
    assert workload(*LENET).macs == 288_000 + 1_600_000 + 400_000 + 5_000
    assert convolution("dw", 32, 10, 3, 32, groups=32).macs == 64 * 9 * 32


def test_a_batch_needs_a_workload() -> None:
    with pytest.raises(WorkloadError, match="at least one workload"):
        WorkloadBatch.of([])
    assert WorkloadBatch.of([workload(*LENET), workload(LENET[0])]).layers.inner.shape == (2, 4)
    assert isinstance(LENET[0], LayerWorkload)
