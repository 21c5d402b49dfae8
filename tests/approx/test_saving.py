import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import approx
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


def everything(classes: int) -> nn.Module:
    return Everything(classes)


def resnet() -> nn.Module:
    return approx.build_named_network(family="resnet", depth=1, width=2, image_shape=(1, 8, 8), classes=10)


def built(**changes: object) -> nn.Module:
    settings = {**NETWORK, "image_shape": (1, 8, 8), **changes}
    return approx.build_named_network(**settings)  # type: ignore[arg-type]


def converted(config: LayerApproximation | NetworkApproximation = EIGHT, network: nn.Module | None = None) -> nn.Module:
    return approx.approximate(network or built(), config, calibration_data=IMAGES)


def save(model: nn.Module, folder: Path, **settings: object) -> None:
    arguments = {"builder": "approx:build_named_network", "arguments": NETWORK, "example_input": IMAGES, **settings}
    approx.save(model, folder, **arguments)  # type: ignore[arg-type]


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for chip in (None, 3):
        for model in (one, other):
            approx.use_chip(model, chip)
        with torch.no_grad():
            assert torch.equal(one(IMAGES), other(IMAGES))


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


def test_masks_memories_and_their_chips_come_back(tmp_path: Path) -> None:
    network = built()
    masks = approx.magnitude_masks({name: layer.weight for name, layer in approx.weight_layers(network)}, 0.6)
    model = approx.approximate(network, EIGHT, calibration_data=IMAGES, masks=masks)
    memory = FaultyMemory(bit_error_rate=0.05, robust_bits=1, storage="sign-magnitude", column_correlation=0.2)
    name = next(name for name, _ in approx.approx_layers(model))
    approx.set_memory(model, weights=memory, activations=FaultyMemory(bit_error_rate=0.01), robust_bits={name: 3})
    save(model, tmp_path / "model", chip_seed=3)
    loaded = approx.load(tmp_path / "model")
    assert_equal(model, loaded)
    for name, layer in approx.approx_layers(loaded):
        assert torch.equal(layer.mask, masks[name])
        assert (layer.stored_codes()[~masks[name]] == 0).all()


@pytest.mark.parametrize(("function", "arguments"), [(everything, {"classes": 10}), (resnet, {})])
def test_every_kind_of_layer_comes_back(function: object, arguments: dict[str, object], tmp_path: Path) -> None:
    network = everything(10) if function is everything else resnet()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    model = converted(EIGHT, network)
    name = getattr(function, "__name__", "")
    sys.modules.setdefault("saved_networks", sys.modules[__name__])
    save(model, tmp_path / "model", builder=f"saved_networks:{name}", arguments=arguments)
    assert_equal(model, approx.load(tmp_path / "model"))


def test_a_network_of_fewer_channels_comes_back(tmp_path: Path) -> None:
    smaller = approx.prune_channels(built(), 0.5, example_input=IMAGES[:2])
    model = converted(EIGHT, smaller)
    save(model, tmp_path / "model")
    assert_equal(model, approx.load(tmp_path / "model"))


def test_a_multiplier_of_ones_own_comes_back_without_being_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approx.catalog._registered", {})
    approx.register_multiplier(approx.multiplier_from_function("mine", lambda a, w: (a & ~1) * w, signed=True))
    model = converted(replace(EIGHT, multiplier="mine"))
    save(model, tmp_path / "model")
    monkeypatch.setattr("approx.catalog._registered", {})
    approx.register_multiplier(approx.multiplier_from_function("mine", lambda a, w: a + w, signed=True))
    assert_equal(model, approx.load(tmp_path / "model"))


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


def test_the_fault_map_is_that_of_the_chip(tmp_path: Path) -> None:
    model = converted()
    approx.set_memory(model, weights=FaultyMemory(bit_error_rate=0.02))
    save(model, tmp_path / "model", chip_seed=7)
    maps = load_file(tmp_path / "model" / "fault_map.safetensors")
    approx.use_chip(model, 7)
    for name, layer in approx.approx_layers(model):
        with torch.no_grad():
            stored, read = (codes.to(torch.int32) & 255 for codes in (layer.stored_codes(), layer.read_codes()))
        assert torch.equal(stored ^ maps[name].to(torch.int32), read)


def test_facts_come_back_and_nothing_is_a_pickle(tmp_path: Path) -> None:
    save(converted(), tmp_path / "model", facts={"accuracy": 0.5})
    assert approx.saved_facts(tmp_path / "model") == {"accuracy": 0.5}
    assert sorted(path.suffix for path in (tmp_path / "model").iterdir()) == [
        ".json", ".npz", ".onnx", ".safetensors", ".safetensors", ".safetensors"
    ]  # fmt: skip
    assert not list(tmp_path.glob("*.partial"))


def test_folders_in_use_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ArgumentError, match="exists and is not a saved model; choose another folder"):
        save(converted(), tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    save(converted(), tmp_path / "model")
    with pytest.raises(ArgumentError, match=r"a model is saved in .*model already; choose another"):
        save(converted(), tmp_path / "model")
    other = converted(replace(EIGHT, weight_bits=4))
    save(other, tmp_path / "model", overwrite=True)
    assert_equal(other, approx.load(tmp_path / "model"))


def test_what_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the model has no approximate layer"):
        save(built(), tmp_path / "model")
    with pytest.raises(ArgumentError, match="would not load again: approx:build_named_network builds another network"):
        save(converted(), tmp_path / "model", arguments={**NETWORK, "depth": 3})
    with pytest.raises(ArgumentError, match=r"is built by nowhere:build, which cannot be imported here"):
        save(converted(), tmp_path / "model", builder="nowhere:build")
    assert not list(tmp_path.iterdir())


def test_damaged_missing_and_newer_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(SavedModelError, match=r"is not a saved model: no config\.json can be read"):
        approx.load(folder)
    save(converted(), folder)
    state = (folder / "state.safetensors").read_bytes()
    (folder / "state.safetensors").write_bytes(state[:-1] + bytes([state[-1] ^ 1]))
    with pytest.raises(SavedModelError, match=r"state\.safetensors is damaged"):
        approx.load(folder)
    (folder / "state.safetensors").unlink()
    with pytest.raises(SavedModelError, match=r"lacks state\.safetensors"):
        approx.load(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(SavedModelError, match="in version 2 of the format; this release knows 1"):
        approx.load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(SavedModelError, match=r"its config\.json is something else's"):
        approx.load(folder)
