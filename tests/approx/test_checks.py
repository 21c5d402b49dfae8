"""Values of a wrong type get a sentence that names the parameter and says what to pass, in every public function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import approx as typed_approx
from approx import Architecture, ArgumentError, LabelledImages, LayerApproximation, Schedule

approx: Any = typed_approx  # wrong types are the point here

IMAGES = torch.rand(4, 1, 6, 6)
LABELS = torch.arange(4)
LOADER = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=2)
LABELLED = LabelledImages((IMAGES * 255).to(torch.uint8), LABELS, 255)
CONFIG = LayerApproximation()
SCHEDULE = Schedule(epochs=1, batch_size=2, learning_rate=1e-3)
ARCHITECTURE = Architecture(family="mlp", depth=1, width=1)
EXACT = approx.find_multiplier("exact", weight_bits=4, activation_bits=4, activation_signed=True)


KERNELS = torch.ones(2, 1, 3, 3)


def network() -> Any:
    return approx.build_network(ARCHITECTURE, image_shape=(1, 6, 6), classes=4, seed=0)


def approximate(config: Any = CONFIG, data: Any = IMAGES, **more: Any) -> None:
    approx.approximate(network(), config, calibration_data=data, **more)


def converted() -> Any:
    return approx.approximate(network(), CONFIG, calibration_data=IMAGES)


def find(name: Any = "exact", weight_bits: Any = 8, activation_bits: Any = 8, **more: Any) -> None:
    approx.find_multiplier(
        name, weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=False, **more
    )


def save(**wrong: Any) -> None:
    right = {"folder": "x", "example_input": IMAGES}
    approx.save(converted(), **{**right, **wrong})


def quantized(values: Any = IMAGES, codes: Any = KERNELS, multiplier: Any = EXACT, **more: Any) -> None:
    scales = {"input_scale": torch.tensor(1.0), "output_scale": torch.ones(2)}
    approx.quantized_conv2d(values, codes, multiplier, **{**scales, **more})


CASES: dict[str, tuple[Callable[[], object], str]] = {
    # converting
    "a network's state": (
        lambda: approx.approximate(network().state_dict(), CONFIG, calibration_data=IMAGES),
        "`model` must be a torch.nn.Module, got a collections.OrderedDict",
    ),
    "a dict": (
        lambda: approximate({"weight_bits": 4}),
        "`config` must be an approx.LayerApproximation or approx.NetworkApproximation, got a dict; build one with "
        r"approx.LayerApproximation\(\*\*config\)",
    ),
    "a name as configuration": (
        lambda: approximate("drum-4"),
        "got 'drum-4'; name the multiplier in one: approx.Layer",
    ),
    "masks in a list": (lambda: approximate(masks=[IMAGES]), "`masks` must be a mapping from layer names to tensors"),
    "a mask in a list": (
        lambda: approximate(masks={"1": [True]}),
        r"`masks\['1'\]` must be a torch.Tensor, got a list",
    ),
    "multipliers in a list": (lambda: approximate(multipliers=[EXACT]), "`multipliers` must be a mapping from names"),
    "a named name": (lambda: approximate(multipliers={"a": "exact"}), r"`multipliers\['a'\]` must be an approx.Multi"),
    "half a bit": (lambda: approx.LayerApproximation(weight_bits=7.5), "`weight_bits` must be a whole number, got 7.5"),
    "bits as text": (lambda: approx.LayerApproximation(activation_bits="8"), "`activation_bits` must be .* got '8'"),
    "a multiplier itself": (
        lambda: approx.LayerApproximation(multiplier=EXACT),
        "`multiplier` must be the name of a multiplier, such as 'drum-4', got an approx.multipliers.multiplier."
        "Multiplier; to use a Multiplier, choose a name and pass `multipliers=",
    ),
    "a rate as memory": (
        lambda: approx.LayerApproximation(weight_memory=0.01),
        "`weight_memory` must be .*FaultyMemory or N",
    ),
    "a signed word": (
        lambda: approx.LayerApproximation(activation_signed="no"),
        "`activation_signed` must be True, False or",
    ),
    "a percentile as text": (
        lambda: approx.LayerApproximation(percentile="99"),
        "`percentile` must be a number, got '99'",
    ),
    "a configuration as text": (
        lambda: approx.LayerApproximation.from_dict("{}"),
        "`content` must be a dictionary made by",
    ),
    "a default as dict": (
        lambda: approx.NetworkApproximation(default={}),
        "`default` must be an approx.LayerApproximation",
    ),
    "overrides as list": (
        lambda: approx.NetworkApproximation(default=CONFIG, overrides=["a"]),
        "`overrides` must be a mapp",
    ),
    "an override as text": (
        lambda: approx.NetworkApproximation(default=CONFIG, overrides={"fc": "exact"}),
        r"`overrides\['fc'\]` must be an approx.LayerApproximation or None, got 'exact'",
    ),
    "layers of layers": (lambda: list(approx.weight_layers([nn.Linear(1, 1)])), "`model` must be .*got a list"),
    "converted layers of nothing": (lambda: list(approx.approx_layers(None)), "`model` must be .*got None"),
    "shapes of a shape": (
        lambda: approx.trace(network(), (1, 1, 6, 6)),
        "`example_input` must be a torch.Tensor, or .* got a tuple",
    ),
    "the order of an array": (
        lambda: approx.layer_order(network(), IMAGES.numpy()),
        r"`example_input` must be a torch.Tensor, or .* got a numpy.ndarray; convert it with torch.from_numpy\(...\)",
    ),
    # multipliers
    "widths in floating point": (lambda: find(weight_bits=8.0), r"`weight_bits` must be a whole number, got 8\.0"),
    "widths of truth": (lambda: find(activation_bits=True), "`activation_bits` must be a whole number, got True"),
    "a multiplier as name": (
        lambda: find(EXACT),
        "`name` must be .*; a Multiplier needs no lookup; `adapted` gives it",
    ),
    "a list of multipliers": (
        lambda: find(multipliers=[EXACT]),
        "`multipliers` must be a mapping from names to approx",
    ),
    "metrics of a name": (
        lambda: approx.error_metrics("drum-4"),
        r"`multiplier` must be an approx.Multiplier, got 'drum-4'; find it with approx.find_multiplier",
    ),
    "errors of a name": (
        lambda: approx.error_table("drum-4"),
        "`multiplier` must be an approx.Multiplier, got 'drum-4'",
    ),
    "the method of a name": (
        lambda: approx.method("drum-4"),
        "`multiplier` must be an approx.Multiplier, got 'drum-4'",
    ),
    "a registered name": (lambda: approx.register_multiplier("drum-4"), "`multiplier` must be an approx.Multiplier"),
    "no function": (
        lambda: approx.multiplier_from_function("m", 3, signed=True),
        "`function` must be a function of two",
    ),
    "wide functions": (
        lambda: approx.multiplier_from_function("m", lambda a, w: a * w, signed=True, weight_bits=9),
        "`weight_bits` must be between 2 and 8, got 9",
    ),
    "a table in lists": (
        lambda: approx.multiplier_from_table("m", [[0, 1]], signed=True, source="here"),
        r"`table` must be a numpy array, got a list; convert it with numpy.asarray\(...\)",
    ),
    "a table of NumPy's": (
        lambda: approx.Multiplier(
            name="m",
            weight_bits=2,
            activation_bits=2,
            activation_signed=True,
            lut=np.zeros((4, 4), np.int32),
        ),
        r"`lut` must be a torch.Tensor, got a numpy.ndarray; convert it with torch.from_numpy\(...\)",
    ),
    "an imported array": (lambda: approx.import_multipliers(np.zeros(4)), "`path` must be a path, got a numpy.ndarray"),
    "a library of nothing": (lambda: approx.MultiplierLibrary(None), "`folder` must be a path, got None"),
    "a name in a library": (
        lambda: approx.MultiplierLibrary("x").add("drum-4"),
        "`multiplier` must be an approx.Multiplier",
    ),
    # arithmetic
    "a list of values": (
        lambda: quantized([1.0]),
        "`values` must be a torch.Tensor, got a list; convert it with torch.",
    ),
    "a layer as codes": (
        lambda: quantized(codes=nn.Conv2d(1, 1, 3)),
        "`weight_codes` must be a torch.Tensor, got a torch.nn.modules.conv.Conv2d; pass tensors, such as",
    ),
    "a name that multiplies": (lambda: quantized(multiplier="exact"), "`multiplier` must be an approx.Multiplier, got"),
    "a scale in floating point": (lambda: quantized(input_scale=1.0), "`input_scale` must be a torch.Tensor, got 1.0"),
    "half a stride": (lambda: quantized(stride=1.5), "`stride` must be a whole number or a pair of them, got 1.5"),
    "a linear list": (lambda: approx.approx_linear([[1]], IMAGES, EXACT), "`activation_codes` must be a torch.Tensor"),
    "quantised lists": (
        lambda: approx.quantize([1.0], torch.tensor(1.0), bits=8, signed=True),
        "`values` must be a torch.Tensor, got a list",
    ),
    "the scale of a vector": (
        lambda: approx.calibrate_scale(torch.ones(3), bits=8, signed=True),
        r"`values` must have shape \(rows, elements\), got \(3,\)",
    ),
    "the percentile of an array": (
        lambda: approx.percentile_scale(np.ones((1, 3)), bits=8, signed=True, percentile=99),
        "`values` must be a torch.Tensor, got a numpy.ndarray",
    ),
    # training
    "a pair": (
        lambda: approx.accuracy(network(), (IMAGES, LABELS)),
        r"batch 0 of `images` must be a pair of tensors, .* got a torch.Tensor; for a single batch pass \[\(",
    ),
    "trained on a loader": (
        lambda: approx.fit(network(), LOADER, SCHEDULE, seed=0),
        "`images` must be an approx.LabelledImages, got a torch.utils.data.dataloader.DataLoader; build one with",
    ),
    "epochs as schedule": (lambda: approx.fit(network(), LABELLED, 3, seed=0), "`schedule` must be an approx.Schedule"),
    "no seed": (
        lambda: approx.fit(network(), LABELLED, SCHEDULE, seed=None),
        "`seed` must be a whole number, got None",
    ),
    "a rate of bit errors": (
        lambda: approx.fit(converted(), LABELLED, SCHEDULE, seed=0, bit_errors=0.01),
        "`bit_errors` must be an approx.FaultyMemory or None, got 0.01",
    ),
    "epochs as text": (
        lambda: approx.Schedule(epochs="3", batch_size=1, learning_rate=1),
        "`epochs` must be a number, got '3'",
    ),
    "half a batch": (
        lambda: approx.Schedule(epochs=3, batch_size=1.5, learning_rate=1),
        "`batch_size` must be a whole number",
    ),
    "pixels of NumPy's": (
        lambda: approx.LabelledImages(IMAGES.numpy(), LABELS, 255),
        "`pixels` must be a torch.Tensor, got a",
    ),
    "labels in a list": (
        lambda: approx.LabelledImages(IMAGES, [0, 1, 2, 3], 255),
        "`labels` must be a torch.Tensor, got a list",
    ),
    # pruning
    "a pruned network": (
        lambda: approx.magnitude_masks(network(), 0.5),
        r"`weights` must be a mapping from layer names to tensors, got .*; for a model: \{name: layer.weight for",
    ),
    "layers as weights": (
        lambda: approx.global_magnitude_masks({"1": nn.Linear(1, 1)}, 0.5),
        r"`weights\['1'\]` must be a torch.Tensor, got a torch.nn.modules.linear.Linear; pass tensors, such as",
    ),
    "a network n:m": (
        lambda: approx.n_m_masks(network(), 2, 4),
        r"`layers` must be .* for a model: dict\(approx.weight",
    ),
    "sparsity as text": (lambda: approx.magnitude_masks({}, "50%"), "`sparsity` must be a number, got '50%'"),
    "half a step": (lambda: approx.gradual_sparsities(0.5, 1.5), "`steps` must be a whole number, got 1.5"),
    "a named method": (
        lambda: approx.prune_and_retrain(network(), LABELLED, SCHEDULE, sparsity=0.5, seed=0, method="magnitude"),
        "`method` must be a function of weights and a sparsity, got 'magnitude'",
    ),
    "one layer to keep": (
        lambda: approx.prune_channels(network(), 0.5, example_input=IMAGES, keep="1"),
        "`keep` must be a list of layer names, got '1'",
    ),
    "sparsity of weights": (
        lambda: approx.measured_sparsity(IMAGES),
        "`model` must be a torch.nn.Module, got a torch.T",
    ),
    # memory
    "a rate as weight memory": (
        lambda: approx.set_memory(converted(), weights=0.01),
        "`weights` must be an approx.Fault",
    ),
    "robust bits of all": (
        lambda: approx.set_memory(converted(), weights=approx.FaultyMemory(bit_error_rate=0.1), robust_bits=3),
        "`robust_bits` must be a mapping from layer names to numbers of bits, got 3",
    ),
    "one dense layer": (
        lambda: approx.set_memory(converted(), dense_layers="1"),
        "`dense_layers` must be a list of la",
    ),
    "a named chip": (lambda: approx.use_chip(converted(), "0"), "`chip_seed` must be a whole number, got '0'"),
    "one chip": (
        lambda: approx.chip_accuracies(converted(), LABELLED, 3),
        "`chip_seeds` must be .* pass a list of one",
    ),
    "bits for a rate": (
        lambda: approx.allocate_robust_bits(converted(), LABELLED, 0.1, chip_seeds=[0], max_drop=0.1),
        "`memory` must be an approx.FaultyMemory, got 0.1",
    ),
    "a rate as text": (lambda: approx.FaultyMemory(bit_error_rate="1%"), "`bit_error_rate` must be a number, got '1%'"),
    "a voltage as text": (lambda: approx.SILICON_14NM.at("0.8"), "`supply_v` must be a number, got '0.8'"),
    "a tail as text": (
        lambda: approx.NormalTail(v_min="1", mean=0.5, deviation=0.1),
        "`v_min` must be a number, got '1'",
    ),
    "a curve of numbers": (
        lambda: approx.MeasuredCurve([0.8, 0.9]),
        "`points` must be pairs of supply voltage and share",
    ),
    "a seed alone": (
        lambda: approx.fault_map(approx.FaultyMemory(bit_error_rate=0.1), words=4, bits=8, seed=1),
        r"`seed` must be a tuple of whole numbers, got 1; for one number, pass \(number,\)",
    ),
    # networks and files
    "a family as architecture": (
        lambda: approx.build_network("lenet", image_shape=(1, 8, 8), classes=10, seed=0),
        "`architecture` must be an approx.Architecture, got 'lenet'; such as approx.Architecture",
    ),
    "a size as shape": (
        lambda: approx.build_network(ARCHITECTURE, image_shape=28, classes=10, seed=0),
        r"`image_shape` must be \(channels, height, width\), got 28",
    ),
    "half a layer": (
        lambda: approx.build_named_network(family="mlp", depth=1.5, width=1, image_shape=(1, 8, 8), classes=10),
        "`depth` must be a whole number, got 1.5",
    ),
    "no family": (lambda: approx.network_family(None), "`name` must be the name of a network family, got None"),
    "an example as a list": (
        lambda: save(example_input=[1.0]),
        "`example_input` must be a torch.Tensor, or .* got a list",
    ),
    "a folder of nothing": (lambda: approx.load(None), "`folder` must be a path, got None"),
    "facts of nothing": (lambda: approx.saved_facts(3), "`folder` must be a path, got 3"),
    "a graph of an array": (
        lambda: approx.to_onnx(converted(), example_input=IMAGES.numpy()),
        "`example_input` must be a torch.Tensor, or .* got a numpy.ndarray",
    ),
    "a graph of nothing": (lambda: approx.equal_in_onnx(None), "`model` must be a torch.nn.Module, got None"),
}


@pytest.mark.parametrize(("call", "complaint"), CASES.values(), ids=CASES)
def test_a_wrong_type_gets_a_sentence(
    call: Callable[[], object], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=complaint):
        call()
    assert not list(tmp_path.iterdir())


def test_types_that_mean_the_same_are_taken() -> None:
    assert approx.LayerApproximation(weight_bits=np.int64(4), percentile=99).weight_bits == 4
    assert Schedule(epochs=np.float64(0.5), batch_size=1, learning_rate=1).epochs == 0.5
    images: Any = list(IMAGES)
    approximate(data=DataLoader(images, batch_size=2))  # which gives tensors, not pairs
    approximate(data=(batch for batch in (IMAGES[:2], IMAGES[2:])))
