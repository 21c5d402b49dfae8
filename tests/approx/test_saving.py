import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import approx
import approx.inputs
from approx import ArgumentError, FaultyMemory, LayerApproximation, NetworkApproximation, SavedModelError

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
NETWORK = {"family": "lenet", "depth": 2, "width": 3, "image_shape": [1, 8, 8], "classes": 10}
EIGHT = LayerApproximation(weight_bits=8, activation_bits=8)


class Everything(nn.Module):
    """Every kind of layer, some normalised, one used twice."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding="same", bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1, groups=2)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.shared = nn.Linear(4, 4)
        self.again = self.shared
        self.classify = nn.Linear(4, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.up(self.grouped(torch.relu(self.norm(self.convolution(images)))))
        tokens = hidden.flatten(2).transpose(1, 2)[:, ::16]
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        scores: Tensor = self.classify(self.again(self.shared(mixed)).mean(1))
        return scores


def resnet() -> nn.Module:
    return approx.build_named_network(family="resnet", depth=1, width=2, image_shape=(1, 8, 8), classes=10)


def built(**changes: object) -> nn.Module:
    settings = {**NETWORK, "image_shape": (1, 8, 8), **changes}
    return approx.build_named_network(**settings)  # type: ignore[arg-type]


def converted(config: LayerApproximation | NetworkApproximation = EIGHT, network: nn.Module | None = None) -> nn.Module:
    return approx.approximate(network or built(), config, calibration_data=IMAGES)


def save(model: nn.Module, folder: Path, **settings: object) -> None:
    approx.save(model, folder, **{"example_input": IMAGES, **settings})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model to copy, because saving takes a second."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(converted(), folder, facts={"accuracy": 0.5})
    return folder


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    """Check that a loaded model has the tensors of the saved one that it needs, and computes the same on any chip."""
    tensors = {**dict(one.named_buffers()), **one.state_dict()}
    assert all(torch.equal(value, tensors[name]) for name, value in other.state_dict().items())
    assert [name for name, _ in approx.approx_layers(one)] == [name for name, _ in approx.approx_layers(other)]
    for chip in (None, 3):
        for model in (one, other):
            approx.use_chip(model, chip)
        with torch.no_grad():
            assert torch.equal(one(IMAGES), other(IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        EIGHT,
        replace(EIGHT, multiplier="asm-1", weight_bits=6),
        replace(EIGHT, multiplier="mitchell", activation_bits=5),
        replace(EIGHT, multiplier="drum-4", weight_bits=12),
        replace(EIGHT, granularity="tensor", calibration="percentile", percentile=99.0),
        replace(EIGHT, learned_scales=True),
        NetworkApproximation(default=EIGHT, overrides={"3": replace(EIGHT, weight_bits=3)}, precise_first=True),
    ],
)
def test_loading_gives_the_model_back_to_the_bit(
    config: LayerApproximation | NetworkApproximation, tmp_path: Path
) -> None:
    model = converted(config)
    for name, parameter in model.named_parameters():
        if "log_" in name:
            parameter.data += 0.1  # as training would
    save(model, tmp_path / "model")
    assert_equal(model, approx.load(tmp_path / "model"))


@pytest.mark.slow
def test_masks_memories_and_their_chips_come_back(tmp_path: Path) -> None:
    network = built()
    masks = approx.magnitude_masks({name: layer.weight for name, layer in approx.weight_layers(network)}, 0.6)
    model = approx.approximate(network, EIGHT, calibration_data=IMAGES, masks=masks)
    memory = FaultyMemory(bit_error_rate=0.05, robust_bits=1, storage="sign-magnitude", supply_share=0.8)
    name = next(name for name, _ in approx.approx_layers(model))
    approx.set_memory(model, weights=memory, activations=FaultyMemory(bit_error_rate=0.01), robust_bits={name: 3})
    save(model, tmp_path / "model", chip_seed=3)
    loaded = approx.load(tmp_path / "model")
    assert_equal(model, loaded)
    for name, layer in approx.approx_layers(loaded):
        assert torch.equal(layer.mask, masks[name])
        assert (layer.stored_codes()[~masks[name]] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("build", [Everything, resnet])
def test_every_kind_of_layer_comes_back(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    network = build()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    model = converted(EIGHT, network)
    save(model, tmp_path / "model")
    assert_equal(model, approx.load(tmp_path / "model"))


class Unusual(nn.Module):
    """Layers that share a weight but not what normalises them, a buffer that is no state, and one not yet shaped."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.two.weight = self.one.weight
        self.first, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)
        self.right.weight = self.left.weight
        self.classify = nn.LazyLinear(10)
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(8), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(self.one(images.expand(-1, 4, -1, -1) + self.shift)).relu()
        hidden = self.right(self.left(self.second(self.two(hidden)).relu()))
        scores: Tensor = self.classify(hidden.relu().flatten(1))
        return scores


def unusual_model() -> nn.Module:
    network = Unusual().eval()
    network(IMAGES)
    network.shift += 0.5
    nn.init.constant_(network.first.weight, 0.3)
    network.classify.requires_grad_(False)
    return converted(network=network)


@pytest.mark.slow
def test_what_is_shared_frozen_or_no_state_comes_back(tmp_path: Path) -> None:
    model = unusual_model()
    save(model, tmp_path / "model")
    loaded = approx.load(tmp_path / "model")
    assert_equal(model, loaded)
    assert torch.equal(loaded.get_buffer("shift"), torch.full((8,), 0.5))
    assert loaded.get_parameter("left.weight") is loaded.get_parameter("right.weight")
    assert loaded.get_parameter("one.weight") is not loaded.get_parameter("two.weight")
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert trained.items() >= {name: parameter.requires_grad for name, parameter in loaded.named_parameters()}.items()
    assert not trained["classify.weight"]


@pytest.mark.slow
def test_a_network_that_would_not_be_the_same_is_refused(tmp_path: Path) -> None:
    class Counts(nn.Module):
        """What it computes depends on how often it ran."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.counts, self.runs = nn.Linear(64, 10), False, 0

        def forward(self, images: Tensor) -> Tensor:
            self.runs += self.counts
            found: Tensor = self.layer(images.flatten(1)) + self.runs
            return found

    model: Any = converted(network=Counts())
    model.counts = True
    with pytest.raises(ArgumentError, match="cannot be saved, because it would not be the same: its output for the"):
        save(model, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["branches on values", "fixes the batch"])
def test_a_network_that_cannot_be_traced_is_refused(tmp_path: Path, kind: str) -> None:
    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, images: Tensor) -> Tensor:
            flat = images.reshape(20, 64) if kind == "fixes the batch" and len(images) == 20 else images.flatten(1)
            found: Tensor = self.layer(flat if kind == "fixes the batch" or flat.sum() > 0 else -flat)
            return found

    with pytest.raises(ArgumentError, match="cannot be traced for batches of any size"):
        save(converted(network=Untraceable()), tmp_path / "model")


@pytest.mark.slow
def test_a_model_that_is_one_layer_comes_back(tmp_path: Path) -> None:
    inputs = torch.rand(5, 8)
    model = approx.approximate(nn.Linear(8, 3), EIGHT, calibration_data=inputs)
    save(model, tmp_path / "model", example_input=inputs)
    loaded = approx.load(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(loaded(inputs), model(inputs))


class Described(nn.Module):
    """Layers and pooling of many shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 4, (3, 5), stride=(2, 1), padding=(1, 2))
        self.grouped = nn.Conv2d(4, 8, 3, dilation=2, groups=4, padding="same", padding_mode="reflect", bias=False)
        self.average = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.classify = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.max_pool2d(self.grouped(self.wide(images)).relu(), 2)
        scores: Tensor = self.classify(F.adaptive_avg_pool2d(self.average(hidden), 1).flatten(1))
        return scores


@pytest.mark.slow
def test_the_description_names_what_hardware_has_to_compute(tmp_path: Path) -> None:
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    model = approx.approximate(Described(), EIGHT, calibration_data=images)
    save(model, tmp_path / "model", example_input=images[:1], facts={"preprocessing": {"mean": [0.5]}})
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert content["input"] == {"shape": [1, 16, 16], "type": "float32"}
    assert content["facts"] == {"preprocessing": {"mean": [0.5]}}
    wide, grouped = content["layers"]["wide"], content["layers"]["grouped"]
    assert wide.items() >= {"kind": "Conv2d", "weight_shape": [4, 1, 3, 5], "stride": [2, 1], "groups": 1}.items()
    assert wide.items() >= {"pad": [2, 2, 1, 1], "dilation": [1, 1], "padding_mode": "zeros", "bias": True}.items()
    assert grouped.items() >= {"weight_shape": [8, 1, 3, 3], "groups": 4, "dilation": [2, 2]}.items()
    assert grouped.items() >= {"pad": [2, 2, 2, 2], "padding_mode": "reflect", "bias": False}.items()
    nodes = content["structure"]["nodes"]
    runs = [node.get("layer") or node.get("call") for node in nodes if "input" not in node]
    assert runs == [
        "wide", "grouped", "aten.relu.default", "aten.max_pool2d.default", "aten.avg_pool2d.default",
        "aten.adaptive_avg_pool2d.default", "aten.flatten.using_ints", "classify",
    ]  # fmt: skip
    assert [node["args"] for node in nodes[2:]] == [[{"of": node["name"]}] for node in nodes[1:-1]]
    largest, mean, whole = (node["kwargs"] for node in nodes if "pool" in node.get("call", ""))
    assert largest.items() >= {"kernel_size": [2, 2], "padding": [0, 0], "ceil_mode": False}.items()
    assert mean.items() >= {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]}.items()
    assert mean["count_include_pad"] is False
    assert whole == {"output_size": [1, 1]}


class TwoInputs(nn.Module):
    """Takes images, what is known besides, and a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.know, self.join = nn.Conv2d(1, 4, 3), nn.Linear(5, 4), nn.Linear(8, 3)

    def forward(self, images: Tensor, facts: Tensor, factor: Tensor | None = None) -> Tensor:
        seen = self.see(images).amax((2, 3))
        scores: Tensor = self.join(torch.cat([seen, self.know(facts)], 1).relu())
        return scores if factor is None else scores * factor


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tuple", "mapping"])
def test_a_network_of_several_inputs_takes_them_as_it_did(form: str, tmp_path: Path) -> None:
    facts = torch.rand(20, 5, generator=torch.Generator().manual_seed(1))
    inputs: Any = (IMAGES, facts)
    if form == "mapping":
        inputs = {"facts": facts, "images": IMAGES, "factor": torch.tensor(2.0)}
    model = approx.approximate(TwoInputs(), EIGHT, calibration_data=inputs)
    save(model, tmp_path / "model", example_input=inputs)
    loaded = approx.load(tmp_path / "model")
    given = json.loads((tmp_path / "model" / "config.json").read_text())["input"]
    of_images, of_facts = ({"shape": shape, "type": "float32"} for shape in ([1, 8, 8], [5]))
    of_factor = {"shape": [], "type": "float32"}
    tuple_, mapping = [of_images, of_facts], {"facts": of_facts, "images": of_images, "factor": of_factor}
    assert given == (tuple_ if form == "tuple" else mapping)
    proto = onnx.load(tmp_path / "model" / "network.onnx")
    names = ["input_0", "input_1"] if form == "tuple" else list(inputs)
    assert [one.name for one in proto.graph.input] == names
    with torch.no_grad():
        expected = model(*inputs) if form == "tuple" else model(**inputs)
        found = loaded(*inputs) if form == "tuple" else loaded(**inputs)
        assert torch.equal(found, expected)
        (in_onnx,) = onnx.reference.ReferenceEvaluator(proto).run(
            None, {name: one.numpy() for name, one in zip(names, approx.inputs.tensors_of(inputs), strict=True)}
        )
        assert np.allclose(in_onnx, expected.numpy(), atol=1e-5)
    with pytest.raises(ArgumentError, match="or for a network of several inputs a tuple of tensors or a mapping from"):
        save(model, tmp_path / "other", example_input=[IMAGES])


@pytest.mark.slow
def test_a_loaded_model_is_saved_as_the_same_files(tmp_path: Path, saved: Path) -> None:
    save(approx.load(saved), tmp_path / "again", facts=approx.saved_facts(saved))
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_training_goes_on_as_it_would_have(tmp_path: Path) -> None:
    config = replace(EIGHT, multiplier="truncated-4", gradient="difference", learned_scales=True)
    model = converted(config)
    save(model, tmp_path / "model")
    loaded = approx.load(tmp_path / "model")
    images = approx.LabelledImages((IMAGES * 16).to(torch.uint8), torch.arange(20) % 10, 16)
    for one in (model, loaded):
        approx.fit(one, images, approx.Schedule(epochs=1, batch_size=10, learning_rate=1e-2), seed=0)
    assert_equal(model, loaded)


@pytest.mark.slow
def test_a_table_and_a_set_of_weights_that_multiply_alike_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approx.multipliers.catalog._registered", {})
    alphabets = approx.find_multiplier("asm-1", weight_bits=8, activation_bits=8, activation_signed=True)
    table = approx.Multiplier(
        name="table", weight_bits=8, activation_bits=8, activation_signed=True, lut=alphabets.table()
    )
    assert table.digest == alphabets.digest
    approx.register_multiplier(table)
    signed = replace(EIGHT, multiplier="asm-1", activation_signed=True)
    model = converted(NetworkApproximation(default=signed, overrides={"0": replace(signed, multiplier="table")}))
    approx.set_memory(model, weights=FaultyMemory(bit_error_rate=0.05))
    save(model, tmp_path / "model")
    assert_equal(model, approx.load(tmp_path / "model"))


@pytest.mark.slow
def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(converted(replace(EIGHT, multiplier="drum-4")), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_a_network_of_fewer_channels_comes_back(tmp_path: Path) -> None:
    smaller = approx.prune_channels(built(), 0.5, example_input=IMAGES[:2])
    model = converted(EIGHT, smaller)
    save(model, tmp_path / "model")
    assert_equal(model, approx.load(tmp_path / "model"))


@pytest.mark.slow
def test_a_custom_multiplier_comes_back_without_being_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approx.multipliers.catalog._registered", {})
    approx.register_multiplier(approx.multiplier_from_function("mine", lambda a, w: (a & ~1) * w, signed=True))
    model = converted(replace(EIGHT, multiplier="mine"))
    monkeypatch.setattr("approx.multipliers.catalog._registered", {})
    save(model, tmp_path / "model")
    approx.register_multiplier(approx.multiplier_from_function("mine", lambda a, w: a + w, signed=True))
    assert_equal(model, approx.load(tmp_path / "model"))


@pytest.mark.process
def test_a_model_loads_without_the_code_of_its_network(tmp_path: Path) -> None:
    model = converted(network=Everything())
    save(model, tmp_path / "model")
    code = "import approx, sys; approx.load('model'); print([one for one in sys.modules if 'test_saving' in one])"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_codes_scales_and_table_say_what_the_layer_computes(tmp_path: Path) -> None:
    """From the files alone, with NumPy."""
    model = converted(replace(EIGHT, multiplier="truncated-4", activation_bits=6))
    save(model, tmp_path / "model")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    codes = {name: one.numpy() for name, one in load_file(tmp_path / "model" / "codes.safetensors").items()}
    name, layer = list(approx.approx_layers(model))[-1]
    about = content["layers"][name]
    table = np.load(tmp_path / "model" / "multipliers.npz")[f"{about['multiplier']}.table"]
    values = torch.rand(5, layer.weight.shape[1], generator=torch.Generator().manual_seed(1))
    scale = codes[f"{name}.activation_scale"]
    activations = np.clip(np.round(values.numpy() / scale), 0, 63).astype(int)
    weights = codes[f"{name}.weight_codes"].astype(int) & 255
    sums = table[activations[:, None, :], weights[None, :, :]].sum(2)
    expected = sums.astype(np.float32) * (codes[f"{name}.weight_scale"] * scale) + codes[f"{name}.bias"]
    with torch.no_grad():
        assert np.allclose(layer(values).numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("failed_cells", ["inverted", "stuck"])
def test_the_fault_map_is_that_of_the_chip(tmp_path: Path, failed_cells: str) -> None:
    model = converted()
    approx.set_memory(model, weights=FaultyMemory(bit_error_rate=0.02, failed_cells=failed_cells))
    save(model, tmp_path / "model", chip_seed=7)
    path = tmp_path / "model" / "fault_map.safetensors"
    maps = load_file(path)
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["about"])
    assert about["chip_seed"] == 7
    approx.use_chip(model, 7)
    for name, layer in approx.approx_layers(model):
        assert about["storage"][name] == "sign-magnitude"
        with torch.no_grad():
            stored, read = (codes.to(torch.int32) for codes in (layer.stored_codes(), layer.read_codes()))
        word, failed = stored.abs() | (stored < 0).int() << 7, maps[name].to(torch.int32)
        word = word ^ failed if failed_cells == "inverted" else word & ~failed | maps[f"{name}.stuck_at"]
        magnitude = word & 127
        assert torch.equal(torch.where(word > 127, -magnitude, magnitude), read)
        assert not torch.equal(stored, read)


@pytest.mark.slow
def test_facts_come_back_and_nothing_is_a_pickle(saved: Path) -> None:
    assert approx.saved_facts(saved) == {"accuracy": 0.5}
    assert sorted(path.suffix for path in saved.iterdir()) == [
        ".json", ".npz", ".onnx", ".safetensors", ".safetensors", ".safetensors"
    ]  # fmt: skip
    assert not list(saved.parent.glob(f".{saved.name}.*"))


@pytest.mark.slow
def test_other_folders_beside_are_left_alone_and_those_that_cannot_be_made_named(tmp_path: Path) -> None:
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "thesis.tex").write_text("years of work")
    save(converted(), tmp_path / "model")
    assert (tmp_path / "model.partial" / "thesis.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.partial"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"the model cannot be saved in .*file/model: Not a directory"):
        save(converted(), tmp_path / "file" / "model")


@pytest.mark.slow
def test_folders_in_use_are_left_alone(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ArgumentError, match="exists and is not a saved model; choose another folder"):
        save(converted(), tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    shutil.copytree(saved, tmp_path / "both")
    (tmp_path / "both" / "thesis.tex").write_text("years of work")
    with pytest.raises(ArgumentError, match=r"contains 'thesis\.tex' besides a saved model; choose another folder"):
        save(converted(), tmp_path / "both", overwrite=True)
    assert (tmp_path / "both" / "thesis.tex").exists()
    shutil.copytree(saved, tmp_path / "model")
    with pytest.raises(ArgumentError, match=r"model already contains a saved model; choose another"):
        save(converted(), tmp_path / "model")
    other = converted(replace(EIGHT, weight_bits=4))
    save(other, tmp_path / "model", overwrite=True)
    assert_equal(other, approx.load(tmp_path / "model"))


@pytest.mark.slow
def test_the_current_folder_can_be_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for bits in (8, 4):
        model = converted(replace(EIGHT, weight_bits=bits))
        save(model, Path("."), overwrite=True)
        assert_equal(model, approx.load("."))


@pytest.mark.slow
def test_what_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="`model` has no approximate layer"):
        save(built(), tmp_path / "model")
    with pytest.raises(ArgumentError, match="`facts` must be JSON values"):
        save(converted(), tmp_path / "model", facts={"seed": torch.zeros(1)})
    with pytest.raises(ArgumentError, match="`chip_seed` must be at least 0, got -1"):
        save(converted(), tmp_path / "model", chip_seed=-1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_damaged_missing_and_newer_files_are_named(tmp_path: Path, saved: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(SavedModelError, match=r"is not a saved model: no config\.json can be read"):
        approx.load(folder)
    shutil.copytree(saved, folder)
    state = (folder / "state.safetensors").read_bytes()
    (folder / "state.safetensors").write_bytes(state[:-1] + bytes([state[-1] ^ 1]))
    with pytest.raises(SavedModelError, match=r"state\.safetensors is damaged"):
        approx.load(folder)
    (folder / "state.safetensors").unlink()
    with pytest.raises(SavedModelError, match=r"lacks state\.safetensors"):
        approx.load(folder)
    content = json.loads((folder / "config.json").read_text())
    save(converted(), folder, overwrite=True)
    newer = json.loads((folder / "config.json").read_text())
    newer["layers"]["0"]["config"]["version"] = 2
    (folder / "config.json").write_text(json.dumps(newer))
    with pytest.raises(SavedModelError, match=r"layer '0' cannot be rebuilt: .* version 2 cannot be read"):
        approx.load(folder)
    (folder / "config.json").write_text(json.dumps({key: content[key] for key in content if key != "layers"}))
    with pytest.raises(SavedModelError, match=r"config\.json is damaged: it lacks 'layers'"):
        approx.load(folder)
    (folder / "config.json").write_text(json.dumps({**content, "version": 3}))
    with pytest.raises(SavedModelError, match="in version 3 of the format; this release reads version 2"):
        approx.load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(SavedModelError, match=r"its config\.json describes something else"):
        approx.load(folder)


@pytest.mark.slow
def test_operations_that_are_not_torchs_are_refused(tmp_path: Path, saved: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    content = json.loads((folder / "config.json").read_text())
    (flatten,) = (node for node in content["structure"]["nodes"] if node.get("call", "").startswith("aten.flatten"))
    for call in ("aten.not_there.default", "aten.from_file.default", "os.system", "operator.attrgetter"):
        flatten["call"] = call
        (folder / "config.json").write_text(json.dumps(content))
        with pytest.raises(SavedModelError, match=f"runs '{call}', which this version of torch does not have"):
            approx.load(folder)
