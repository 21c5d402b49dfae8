"""The energy of networks that no search made, beside what a search says of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import approx
import energy
import search
from approx import FaultyMemory, LayerApproximation, NetworkApproximation
from search.errors import UsageError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.emulation import Emulation
from search.evaluation.evaluation import Evaluation
from search.evaluation.evaluator import Evaluator
from search.evaluation.task_images import TaskImages
from search.evaluation.training import Training
from search.images.places import ImagePlaces
from search.multipliers.choice import choose
from search.multipliers.folder import MultiplierFolder
from search.multipliers.known import KnownMultipliers
from search.space.candidate import Candidate
from search.space.task import Task, find_task
from tests.support.fakes import imported, keep

DIGITS = find_task("digits")
TASK: Task = replace(DIGITS, effort=replace(DIGITS.effort.scaled("quick"), train_epochs=2, prune_epochs=1))
BASELINE = TASK.space.baseline()
HARDWARE = energy.load_hardware("flexible-45nm")
TRACED = 64  # images on which an evaluation measures how many activations are zero


class Evaluated:
    """Evaluations of digits beside the networks that they are of."""

    def __init__(self, folder: Path, multiplier: str) -> None:
        data = datasets.load(TASK, ImagePlaces.at(folder))
        cache = TrainingCache(folder / "cache")
        chosen = choose([multiplier])
        self._known = KnownMultipliers.of(chosen)
        self._evaluator = Evaluator(TASK, data, HARDWARE, seed=0, cache=cache, multipliers=chosen)
        self._images = TaskImages(TASK, data)
        self._emulation = Emulation(
            failures="silicon-14nm", circuit_bits=None, partial_sums=None, multipliers=self._known.tables
        )
        self._training = Training(TASK, self._images, seed=0, cache=cache, emulation=self._emulation)
        self.images = self._images.calibration_data()[:TRACED]

    def evaluation(self, candidate: Candidate) -> Evaluation:
        return self._evaluator.evaluate(candidate, "validation")

    def energy_pj(self, workload: energy.Workload) -> float:
        return energy.estimate(workload, HARDWARE, costs=self._known.costs).energy_pj

    def network(self, candidate: Candidate) -> nn.Module:
        return self._training.pruned(candidate).model

    def converted(self, candidate: Candidate) -> nn.Module:
        model, _ = self._training.approximated(candidate, self._training.pruned(candidate))
        layers = approx.layer_order(model, self._images.example())
        self._emulation.put_in_memory(model, candidate, layers, ())
        return model


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MultiplierFolder:
    monkeypatch.setenv("CROSSLAYER_MULTIPLIER_DIR", str(tmp_path / "multipliers"))
    return MultiplierFolder.default()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("energies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSLAYER_MULTIPLIER_DIR", str(folder))
        return Evaluated(folder, keep(imported("mine")))


def densities(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Shares of the inputs of a network's layers that are not zero."""
    shares: dict[str, float] = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: shares.update({name: int((inputs[0] != 0).sum()) / inputs[0].numel()})
        )
        for name, layer in approx.approx_layers(model)
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"sparsity": 0.5}, {"family": "lenet", "depth": 2, "width": 2}])
def test_a_trained_network_is_charged_as_a_search_charges_it(found: Evaluated, changes: dict[str, Any]) -> None:
    candidate = replace(BASELINE, **changes)
    stored = found.evaluation(candidate)
    report = search.energy_of(found.network(candidate), found.images)
    assert report.workload == energy.Workload.from_dict(stored.workload)
    assert report.energy_pj == stored.energy_pj
    assert report.components == stored.components_pj
    assert report.area_mm2.value == stored.area_mm2
    assert report.latency_us == stored.latency_us


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weight_bits": 3, "activation_bits": 5, "multiplier": "asm-1-3", "sparsity": 0.6},  # exact at 3 bits
        {"weight_bits": 6, "multiplier": "truncated-4", "supply_v": 0.62, "robust_bits": 8},
        {"multiplier_first": "ssm-4", "multiplier_last": "asm-1-3", "supply_v": 0.7, "robust_bits": 3},
        {"supply_v": 0.7, "robust_bits": 3, "robust_bits_first": 1, "robust_bits_last": 4},
    ],
)
def test_a_converted_network_is_charged_for_what_its_layers_say(found: Evaluated, changes: dict[str, Any]) -> None:
    """Only activations differ from those that a search measures, which are those before the conversion."""
    candidate = replace(BASELINE, **changes).canonical()
    stored = energy.Workload.from_dict(found.evaluation(candidate).workload)
    model = found.converted(candidate)
    measured = densities(model, found.images)
    expected = replace(
        stored, layers=tuple(replace(one, activation_density=measured[one.name]) for one in stored.layers)
    )
    report = search.energy_of(model, found.images)
    assert report.workload == expected
    assert report.energy_pj == found.energy_pj(expected)


@pytest.mark.slow
def test_an_imported_multiplier_costs_what_it_does_in_a_search(found: Evaluated, own_folder: MultiplierFolder) -> None:
    candidate = replace(BASELINE, multiplier=keep(imported("mine")), sparsity=0.5)
    model = found.converted(candidate)
    report = search.energy_of(model, found.images)
    assert report.workload.multiplier == "mine"
    assert report.energy_pj == found.energy_pj(replace(report.workload, multiplier=candidate.multiplier))
    exact = replace(report.workload, multiplier="exact")
    assert report.components["mac"] < 0.9 * energy.estimate(exact, HARDWARE).components["mac"]


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


IMAGES = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
DRUM = LayerApproximation(multiplier="drum-4")


def converted(config: LayerApproximation | NetworkApproximation, **own: approx.Multiplier) -> nn.Module:
    return approx.approximate(small(), config, calibration_data=IMAGES, multipliers=own)


def test_hardware_is_a_name_a_file_or_a_value(tmp_path: Path) -> None:
    named = search.energy_of(small(), IMAGES, "hybrid-22nm")
    assert named.energy_pj < search.energy_of(small(), IMAGES).energy_pj
    assert search.energy_of(small(), IMAGES, energy.load_hardware("hybrid-22nm")).energy_pj == named.energy_pj
    shipped = Path(energy.__file__).parent / "hardware" / "hybrid-22nm.yaml"
    (tmp_path / "mine.yaml").write_text(shipped.read_text().replace("name: hybrid-22nm", "name: mine"))
    own = search.energy_of(small(), IMAGES, tmp_path / "mine.yaml")
    assert (own.hardware.name, own.energy_pj) == ("mine", named.energy_pj)


def test_weights_that_are_zero_are_charged_as_pruned() -> None:
    model = small()
    dense = search.energy_of(model, IMAGES)
    masks = approx.magnitude_masks({name: layer.weight for name, layer in approx.weight_layers(model)}, 0.75)
    masked = approx.approximate(model, LayerApproximation(), calibration_data=IMAGES, masks=masks)
    with torch.no_grad():
        for name, layer in approx.weight_layers(model):
            layer.weight *= masks[name]
    pruned = search.energy_of(model, IMAGES)
    kept = {"0": 27, "3": 80}  # a quarter of 4 x 27 and of 5 x 64
    for report in (pruned, search.energy_of(masked, IMAGES)):
        assert {one.name: one.nonzero_weights for one in report.workload.layers} == kept
    assert pruned.energy_pj < dense.energy_pj


def test_the_network_is_left_as_it_is() -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    search.energy_of(model, IMAGES)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_attention_is_charged_for_its_projections() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)
    report = search.energy_of(layer, torch.rand(2, 5, 8))
    assert report.workload.macs == 5 * (4 * 8 * 8 + 2 * 8 * 12)


def test_any_layer_may_have_a_multiplier_and_robust_bits_of_its_own() -> None:
    memory = approx.SILICON_14NM.at(0.72, robust_bits=2)
    first = LayerApproximation(multiplier="drum-4", weight_memory=replace(memory, robust_bits=5))
    model = converted(NetworkApproximation(default=LayerApproximation(weight_memory=memory), overrides={"0": first}))
    workload = search.energy_of(model, IMAGES).workload
    assert workload.layer_multipliers == ("drum-4", "exact")
    assert workload.layer_robust_bits == (5, 2)
    assert workload.weight_memory_v == 0.72
    hybrid = search.energy_of(model, IMAGES, "hybrid-22nm").workload
    assert hybrid.weight_memory_v == pytest.approx(0.72 / 0.9 * 0.95)  # the same share of its own nominal voltage


def test_the_supply_voltage_may_be_given() -> None:
    nominal, low = (search.energy_of(small(), IMAGES, supply_v=voltage) for voltage in (0.9, 0.6))
    assert nominal.energy_pj == search.energy_of(small(), IMAGES).energy_pj
    ratio = low.components["weight_sram"] / nominal.components["weight_sram"]
    assert ratio == pytest.approx((0.6 / 0.9) ** 2)
    faulty = converted(LayerApproximation(weight_memory=FaultyMemory(bit_error_rate=0.01)))
    assert search.energy_of(faulty, IMAGES, supply_v=0.7).workload.weight_memory_v == 0.7
    harmless = converted(LayerApproximation(weight_memory=FaultyMemory(bit_error_rate=0.0)))
    assert search.energy_of(harmless, IMAGES).workload.weight_memory_v == 0.9


def test_own_multipliers_cost_what_was_registered_or_characterised(own_folder: MultiplierFolder) -> None:
    mine = imported("mine")
    model = converted(LayerApproximation(multiplier="mine"), mine=mine)
    with pytest.raises(UsageError, match=r"for multiplier 'mine' of layer '0' of `model`; measure the circuit.*"):
        search.energy_of(model, IMAGES)
    keep(mine)
    kept = search.energy_of(model, IMAGES)
    assert kept.workload.multiplier == "mine"
    truncated = converted(LayerApproximation(multiplier="truncated-4"))  # which `keep` says it costs as much as
    assert kept.components["mac"] == pytest.approx(search.energy_of(truncated, IMAGES).components["mac"], rel=0.01)
    other = converted(LayerApproximation(multiplier="mine"), mine=imported("mine", dropped_bits=5))
    with pytest.raises(UsageError, match="'0' of `model`, which is not the known multiplier of that name; measure the"):
        search.energy_of(other, IMAGES)
    shadowed = converted(DRUM, **{"drum-4": mine})
    with pytest.raises(UsageError, match="'drum-4' of layer '0' of `model`, which is not the known multiplier of that"):
        search.energy_of(shadowed, IMAGES)


def test_costs_that_were_registered_are_known(monkeypatch: pytest.MonkeyPatch, own_folder: MultiplierFolder) -> None:
    from energy import cost_table

    monkeypatch.setattr(cost_table, "_known", energy.CostTable())
    cost = replace(energy.multiplier_cost("exact", weight_bits=8, activation_bits=8), relative_energy_held=0.5)
    energy.register_multiplier_cost("mine", {("layer", 8, 8): cost})
    model = converted(LayerApproximation(multiplier="mine"), mine=imported("mine"))
    assert search.energy_of(model, IMAGES).workload.multiplier == "mine"


BITS_DIFFER = NetworkApproximation(default=LayerApproximation(), overrides={"3": LayerApproximation(weight_bits=4)})
ONE_LEFT = NetworkApproximation(default=LayerApproximation(), overrides={"3": None})
LOW = LayerApproximation(weight_memory=approx.SILICON_14NM.at(0.72))
VOLTAGES_DIFFER = NetworkApproximation(default=LayerApproximation(), overrides={"3": LOW})
FAULTY = LayerApproximation(weight_memory=FaultyMemory(bit_error_rate=0.01))


def with_masks() -> Any:
    model: Any = small()
    prune.l1_unstructured(model[3], "weight", 0.5)  # type: ignore[no-untyped-call]
    return model


def test_weights_that_torch_pruned_are_charged_as_pruned() -> None:
    found = search.energy_of(with_masks(), IMAGES)
    removed = with_masks()
    prune.remove(removed[3], "weight")  # type: ignore[no-untyped-call]
    assert found.energy_pj == search.energy_of(removed, IMAGES).energy_pj
    assert found.energy_pj < search.energy_of(small(), IMAGES).energy_pj


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no network": (lambda: search.energy_of("net", IMAGES), "`model` must be a torch.nn.Module, got 'net'"),  # type: ignore[arg-type]
    "an array": (
        lambda: search.energy_of(small(), np.zeros((1, 3, 6, 6))),  # type: ignore[arg-type]
        "`example` must be a tensor of network inputs, got a numpy.ndarray; convert it with torch.from_numpy(...)",
    ),
    "images and labels": (
        lambda: search.energy_of(small(), (IMAGES, torch.zeros(8))),  # type: ignore[arg-type]
        "`example` must be a tensor of network inputs, got a tuple; of a batch of images and labels, pass the images",
    ),
    "no image": (
        lambda: search.energy_of(small(), IMAGES[:0]),
        "`example` must be a batch of inputs, got shape (0, 3,",
    ),
    "an image without a batch": (
        lambda: search.energy_of(small()[:1], IMAGES[0]),
        "`example` must be a batch of inputs, but layer '0' gets a single one of shape (3, 6, 6); give it a first "
        "dimension with example[None]",
    ),
    "images of another shape": (
        lambda: search.energy_of(small(), torch.rand(2, 1, 6, 6)),
        "the network fails on an input of shape (2, 1, 6, 6), type torch.float32, on cpu: RuntimeError: Given",
    ),
    "no layers": (
        lambda: search.energy_of(nn.ReLU(), IMAGES),
        "`model` runs none of Linear, Conv1d, Conv2d, ConvTranspose2d and MultiheadAttention on `example`, the only",
    ),
    "other layers": (
        lambda: search.energy_of(nn.LSTM(3, 4), torch.rand(2, 5, 3)),
        "`model` multiplies 'weight_ih_l0' outside of Linear, Conv1d, Conv2d, ConvTranspose2d and Multihead",
    ),
    "hardware that is none": (
        lambda: search.energy_of(small(), IMAGES, 45),  # type: ignore[arg-type]
        "`hardware` must be a name, the path of a YAML file or an energy.Hardware, got 45",
    ),
    "a voltage that is none": (
        lambda: search.energy_of(small(), IMAGES, supply_v=0),
        "`supply_v` must be a number of volts above 0, such as 0.7, got 0",
    ),
    "different bits": (
        lambda: search.energy_of(converted(BITS_DIFFER), IMAGES),
        "layer '0' of `model` has 8-bit weights and 8-bit activations, but layer '3' 4 and 8; energy is modelled for",
    ),
    "a layer in floating point": (
        lambda: search.energy_of(converted(ONE_LEFT), IMAGES),
        "layer '3' of `model` was left in floating point, whose energy is not modelled; convert it like the others",
    ),
    "different voltages": (
        lambda: search.energy_of(converted(VOLTAGES_DIFFER), IMAGES),
        "the weights of layer '0' of `model` are stored at 1 of the nominal voltage, but those of '3' at 0.8; a",
    ),
    "an unknown voltage": (
        lambda: search.energy_of(converted(FAULTY), IMAGES),
        "the weight memory of layer '0' of `model` does not say at which supply voltage it has its faults; give it as",
    ),
    "a multiplier that was not characterised": (
        lambda: search.energy_of(converted(LayerApproximation(multiplier="drum-7")), IMAGES),
        "no energy is known for multiplier 'drum-7' of layer '0' of `model`; characterise it with: search multipliers "
        "characterise drum-7; or give its costs to energy.register_multiplier_cost",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_charged_is_refused_in_one_sentence(case: str, own_folder: MultiplierFolder) -> None:
    call, message = REFUSED[case]
    with pytest.raises(UsageError) as refused:
        call()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_hardware_that_cannot_run_it_says_why() -> None:
    with pytest.raises(energy.HardwareError, match="unknown hardware 'tpu'"):
        search.energy_of(small(), IMAGES, "tpu")
    robust = converted(LayerApproximation(weight_memory=approx.SILICON_14NM.at(0.72, robust_bits=2)))
    with pytest.raises(energy.WorkloadError, match="has 6T cells only, so robust_bits must be 0, got 2"):
        search.energy_of(robust, IMAGES, "row-stationary-65nm")
