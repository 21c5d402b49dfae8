import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx import (
    FaultyMemory,
    LabelledImages,
    LayerApproximation,
    Multiplier,
    NetworkApproximation,
    Schedule,
    accuracy,
    approx_layers,
    approximate,
    correct_bias,
    fit,
    load,
    magnitude_masks,
    multiplier_from_function,
    prune_channels,
    reestimate_batch_norm,
    save,
    use_chip,
    weight_layers,
)
from approx.errors import ArgumentError


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Networks that a test makes are the same whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    from sklearn.datasets import load_digits

    found = load_digits()
    return LabelledImages(torch.tensor(found.images).to(torch.uint8)[:, None], torch.tensor(found.target), 16)


def small_cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(256, 20),
        nn.BatchNorm1d(20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )


@pytest.fixture(scope="module")
def trained(digits: LabelledImages) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_cnn()
    fit(model, digits, Schedule(epochs=4, batch_size=64, learning_rate=3e-3), seed=0)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    after = model.state_dict()
    return {name for name in before.keys() | after.keys() if not torch.equal(before[name], after[name])}


# ---- statistics --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "batch_size", "batches"), [(12, 12, 1), (12, 4, 3), (13, 4, 3), (3, 128, 1)])
def test_statistics_are_the_average_over_batches_of_those_of_what_reaches_a_layer(
    images: int, batch_size: int, batches: int
) -> None:
    convolution, first_norm, linear, second_norm = (
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(48, 5), nn.BatchNorm1d(5, eps=0.1),
    )  # fmt: skip
    model = nn.Sequential(convolution, first_norm, nn.ReLU(), nn.Flatten(), linear, second_norm)
    for norm in (first_norm, second_norm):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    inputs = noise(images, 2, 6, 6)
    first, second = [], []
    with torch.no_grad():
        for batch in inputs.tensor_split(batches):
            values = convolution(batch).double()
            first.append(torch.stack([values.mean((0, 2, 3)), values.var((0, 2, 3))]))
            plain = (values - values.mean((0, 2, 3), keepdim=True)) / (
                values.var((0, 2, 3), keepdim=True, correction=0) + 1e-5
            ).sqrt()
            plain = plain * first_norm.weight[:, None, None] + first_norm.bias[:, None, None]
            values = F.linear(plain.relu().flatten(1), linear.weight.double(), linear.bias.double())
            second.append(torch.stack([values.mean(0), values.var(0)]))
    reestimate_batch_norm(model, inputs, batch_size=batch_size)
    for norm, found in ((first_norm, first), (second_norm, second)):
        mean, variance = torch.stack(found).mean(0).float()
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)


def test_nothing_but_statistics_changes_and_nothing_is_random() -> None:
    model = small_cnn()
    model.eval()
    model[0].train()  # modes are as they were, whatever they were
    model[5].train()
    norm = model[5]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.momentum = 0.3
    other, inputs = copy.deepcopy(model), noise(20, 1, 8, 8)
    before, random = state(model), torch.get_rng_state()
    reestimate_batch_norm(model, inputs, batch_size=8)
    assert changed(model, before) == {
        f"{norm}.{name}" for norm in (1, 5, 10) for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert [module.training for module in model] == [index in (0, 5) for index in range(len(model))]
    assert norm.momentum == 0.3
    assert torch.equal(torch.get_rng_state(), random)
    torch.rand(10)
    reestimate_batch_norm(other, inputs, batch_size=8)
    assert not changed(other, state(model))


class Idle(nn.Module):
    """A BatchNorm that does not run, and one without statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.idle = nn.BatchNorm1d(3)
        self.plain = nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.plain(self.linear(inputs))
        return outputs


@pytest.mark.parametrize("build", [Idle, lambda: nn.Linear(3, 3)])
def test_a_network_without_statistics_to_estimate_is_left_as_it_is(build: Callable[[], nn.Module]) -> None:
    model = build()
    if isinstance(model, Idle):
        nn.init.normal_(model.idle.get_buffer("running_mean"))
    before = state(model)
    reestimate_batch_norm(model, noise(8, 3))
    assert not changed(model, before)


def test_statistics_stay_where_the_network_fails() -> None:
    model = small_cnn().eval()
    before = state(model)
    with pytest.raises(ArgumentError):
        reestimate_batch_norm(model, noise(8, 1, 9, 4))  # too few values for the Linear layer, after two BatchNorms
    assert not changed(model, before)
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.1


@pytest.mark.parametrize(
    ("inputs", "batch_size", "complaint"),
    [
        (noise(1, 3), 8, r"`inputs` must hold at least 2 images, whose variance is estimated, got shape \(1, 3\)"),
        (noise(8, 3), 1, "`batch_size` must be at least 2, got 1"),
        ([1], 8, "`inputs` must be a torch.Tensor, or .* got a list"),
    ],
)
def test_statistics_of_nothing_are_refused(inputs: Any, batch_size: int, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        reestimate_batch_norm(Idle(), inputs, batch_size=batch_size)


@pytest.mark.slow
def test_statistics_estimated_anew_mend_a_network_without_some_of_its_channels(
    trained: nn.Sequential, digits: LabelledImages
) -> None:
    inputs = digits.inputs(slice(0, 512))
    smaller = prune_channels(trained, 0.4, example_input=inputs[:1])
    before = accuracy(smaller, digits)
    reestimate_batch_norm(smaller, inputs)
    assert accuracy(smaller, digits) > before + 0.1


# ---- biases ------------------------------------------------------------------------------------------------------


def truncating(bits: int) -> Multiplier:
    """Its products lack their lowest bits, so that they are too small on average."""
    return multiplier_from_function("truncating", lambda a, b: (a * b >> bits) << bits, signed=True)


def convert(model: nn.Module, inputs: Tensor, bits: int = 8, **options: Any) -> nn.Module:
    config = LayerApproximation(multiplier="truncating")
    return approximate(model, config, calibration_data=inputs, multipliers={"truncating": truncating(bits)}, **options)


def channel_means(outputs: Tensor) -> Tensor:
    return outputs.transpose(0, 1).double().flatten(1).mean(1) if outputs.dim() == 4 else outputs.double().mean(0)


@pytest.mark.parametrize("pruned", [False, True])
def test_each_layers_mean_outputs_are_the_originals(
    trained: nn.Sequential, digits: LabelledImages, pruned: bool
) -> None:
    inputs = digits.inputs(slice(100, 300))
    masks = magnitude_masks({name: layer.weight for name, layer in weight_layers(trained)}, 0.5) if pruned else None
    converted = convert(trained, inputs, masks=masks)
    before = state(trained)
    assert isinstance(converted, nn.Sequential)
    apart: dict[str, list[float]] = {}
    for moment in ("before", "after"):
        apart[moment] = []
        for layer, end in ((0, 2), (4, 6), (9, 11), (12, 13)):  # where each begins, and ends with its BatchNorm
            with torch.no_grad():
                wanted = channel_means(trained[:end](inputs))
                found = channel_means(converted[:end](inputs))
            spread = wanted.std() + 1e-9
            apart[moment].append(float(((found - wanted) / spread).abs().max()))
            assert isinstance(converted[layer].bias, nn.Parameter)
        if moment == "before":
            correct_bias(converted, trained, inputs)
    assert min(apart["before"]) > 0.05
    assert max(apart["after"]) < 1e-4
    assert not changed(trained, before)


def test_only_biases_change_and_only_by_what_is_missing(trained: nn.Sequential, digits: LabelledImages) -> None:
    inputs = digits.inputs(slice(0, 100))
    converted = convert(trained, inputs)
    before, twice = state(converted), copy.deepcopy(converted)
    correct_bias(converted, trained, inputs)
    assert changed(converted, before) == {f"{layer}.bias" for layer in (0, 4, 9, 12)}
    correct_bias(twice, trained, inputs)
    assert not changed(twice, state(converted))
    correct_bias(twice, trained, inputs)  # nothing is missing any more
    for name, value in converted.state_dict().items():
        torch.testing.assert_close(twice.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert all(layer.bias is not None and layer.bias.requires_grad for _, layer in approx_layers(converted))


def test_a_truncating_multiplier_is_mended(trained: nn.Sequential, digits: LabelledImages) -> None:
    """Measured on other images than those that biases are corrected with."""
    inputs = digits.inputs(slice(0, 512))
    rest = digits.subset(torch.arange(512, len(digits)))
    converted = convert(trained, inputs, bits=10)
    found = {}
    for moment in ("before", "after"):
        with torch.no_grad():
            exact = trained(rest.inputs(slice(None)))
            error = converted(rest.inputs(slice(None))) - exact
        ratio = float((exact - exact.mean(0)).square().mean() / error.square().mean())
        found[moment] = accuracy(converted, rest), ratio
        if moment == "before":
            correct_bias(converted, trained, inputs)
    assert accuracy(trained, rest) > 0.95
    assert found["after"][0] > found["before"][0] + 0.1
    assert found["after"][1] > 4 * found["before"][1]


class Mixed(nn.Module):
    """Transposed, grouped and token-wise layers, attention, and a layer without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 8, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.tokens = nn.Linear(8, 5, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        values = self.grouped(self.norm(self.up(inputs)).relu())
        tokens = values.flatten(2).transpose(1, 2)
        attended, _ = self.attention(tokens, tokens, tokens)
        outputs: Tensor = self.tokens(attended + tokens)
        return outputs


def mixed() -> Mixed:
    model = Mixed()
    nn.init.normal_(model.norm.get_buffer("running_mean"))
    nn.init.uniform_(model.norm.weight, 0.5, 2)
    return model.eval()


def outputs_of(model: nn.Module, names: list[str], inputs: Tensor) -> dict[str, Tensor]:
    """Of each run of the named modules, one after the other."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen[name].append(out))
        for name in names
    ]
    with torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(runs) for name, runs in seen.items()}


def test_every_kind_of_layer_is_corrected_and_those_without_a_bias_get_one() -> None:
    model, inputs = mixed(), noise(30, 2, 6, 6)
    converted = convert(model, inputs)
    correct_bias(converted, model, inputs)
    wanted = outputs_of(model, ["norm", "grouped", "tokens"], inputs)
    wanted["up"] = wanted.pop("norm")
    found = outputs_of(converted, list(wanted), inputs)
    for name, expected in wanted.items():
        dims = (0, 2, 3) if expected.dim() == 4 else (0, 1)
        assert expected.std() > 0.1
        torch.testing.assert_close(found[name].mean(dims), expected.mean(dims), rtol=1e-4, atol=1e-5)
    assert {name for name, layer in approx_layers(converted) if layer.bias is None} == set()
    uncorrected = dict(approx_layers(convert(model, inputs)))
    for name in ("attention.query", "attention.key", "attention.value", "attention.out_proj"):
        bias = uncorrected[name].bias
        assert bias is not None
        assert not torch.equal(converted.get_parameter(f"{name}.bias"), bias), name
    assert uncorrected["tokens"].bias is None


@pytest.mark.slow
def test_a_bias_that_a_layer_did_not_have_is_saved(tmp_path: Path) -> None:
    model, inputs = mixed(), noise(30, 2, 6, 6)
    converted = convert(model, inputs)
    correct_bias(converted, model, inputs)
    save(converted, tmp_path / "model", example_input=inputs[:2])
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "model")(inputs), converted(inputs))


class Repeated(nn.Module):
    """One layer three times, with another before and behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.again = nn.Linear(8, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        values = self.first(inputs).relu()
        for _ in range(3):
            values = self.again(values).relu()
        outputs: Tensor = self.last(values)
        return outputs


def test_a_layer_that_runs_several_times_is_corrected_by_the_mean_over_its_runs() -> None:
    model, inputs = Repeated(), noise(500, 6)
    converted = convert(model, inputs, bits=9)
    uncorrected = copy.deepcopy(converted)
    correct_bias(converted, model, inputs)
    names = ["first", "again", "last"]
    wanted, before, found = (outputs_of(one, names, inputs) for one in (model, uncorrected, converted))
    for name in names:
        left = (found[name].mean(0) - wanted[name].mean(0)).norm()
        missing = (before[name].mean(0) - wanted[name].mean(0)).norm()
        assert missing > 0.01, name
        assert left < (0.4 * missing if name == "again" else 1e-5), name
    # The bias of `again` follows from means when all before it is corrected, but itself is not.
    partly, old = copy.deepcopy(converted), uncorrected.get_parameter("again.bias")
    with torch.no_grad():
        partly.get_parameter("again.bias").copy_(old)
        missing = wanted["again"].mean(0) - outputs_of(partly, ["again"], inputs)["again"].mean(0)
        added = converted.get_parameter("again.bias") - old
    torch.testing.assert_close(added, missing, rtol=1e-4, atol=1e-5)


def test_layers_that_are_not_converted_stay_as_they_are(trained: nn.Sequential, digits: LabelledImages) -> None:
    inputs = digits.inputs(slice(0, 100))
    coarse = LayerApproximation(weight_bits=3, activation_bits=3)
    network = NetworkApproximation(default=coarse, overrides={"4": None})
    converted = approximate(trained, network, calibration_data=inputs)
    before = state(converted)
    correct_bias(converted, trained, inputs)
    assert changed(converted, before) == {"0.bias", "9.bias", "12.bias"}
    with torch.no_grad():
        torch.testing.assert_close(converted(inputs).mean(0), trained(inputs).mean(0), rtol=1e-3, atol=1e-4)


def test_biases_are_those_of_perfect_memories_and_modes_stay(trained: nn.Sequential, digits: LabelledImages) -> None:
    inputs = digits.inputs(slice(0, 100))
    found = []
    for chip in (None, 3):
        converted = approximate(
            trained, LayerApproximation(weight_memory=FaultyMemory(bit_error_rate=0.1)), calibration_data=inputs
        )
        use_chip(converted, chip)
        converted.get_submodule("7").train()
        correct_bias(converted, trained, inputs)
        assert [name for name, module in converted.named_modules() if module.training] == ["7"]
        found.append(converted.eval())
    assert not changed(found[0], state(found[1]))
    with torch.no_grad():
        assert torch.equal(found[0](inputs), found[1](inputs))  # off its chip


def test_layers_that_shared_a_bias_each_get_their_own() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].bias = model[0].bias
    inputs = noise(200, 6)
    converted = convert(model, inputs, bits=9)
    correct_bias(converted, model, inputs)
    for end in (1, 3):
        with torch.no_grad():
            found, wanted = converted[:end](inputs), model[:end](inputs)  # type: ignore[index]
        torch.testing.assert_close(found.mean(0), wanted.mean(0), rtol=1e-4, atol=1e-5)


def test_what_a_layer_gives_meanwhile_is_what_it_gives_afterwards(
    trained: nn.Sequential, digits: LabelledImages
) -> None:
    """To the bit, or else rounding would move codes of later layers, whose means would be off."""
    inputs = digits.inputs(slice(0, 100))
    converted = convert(trained, inputs)
    assert isinstance(converted, nn.Sequential)
    meanwhile: list[Tensor] = []
    handle = converted[-2].register_forward_hook(lambda _, __, output: meanwhile.append(output.clone()))
    correct_bias(converted, trained, inputs)
    handle.remove()
    with torch.no_grad():
        assert torch.equal(converted[:-1](inputs), meanwhile[0])


def test_biases_stay_where_a_network_fails(trained: nn.Sequential, digits: LabelledImages) -> None:
    inputs = digits.inputs(slice(0, 100))
    converted = convert(trained, inputs)
    before = state(converted)

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    converted.get_submodule("9").register_forward_hook(fail, prepend=True)
    with pytest.raises(ArgumentError, match="no"):
        correct_bias(converted, trained, inputs)
    assert not changed(converted, before)


def test_an_original_without_a_batch_norm_that_was_folded_is_refused() -> None:
    model, inputs = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)).eval(), noise(10, 6)
    complaint = "`converted` does not come from `original`, which has no BatchNorm '1' to fold"
    with pytest.raises(ArgumentError, match=complaint):
        correct_bias(convert(model, inputs), model[:1], inputs)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (lambda c, o, i: (o, o, i), r"`converted` has no approximate layer; convert it with approximate\(\)"),
        (lambda c, o, i: (c, nn.Linear(6, 6), i), "does not come from `original`, which has no layer '0' with 5 out"),
        (lambda c, o, i: (c, nn.Sequential(nn.Linear(6, 4)), i), "has no layer '0' with 5 outputs to convert"),
        (lambda c, o, i: (c, c, i), "does not come from `original`, which has no layer '0' with 5 outputs"),
        (lambda c, o, i: (c, o, i[:0]), r"`inputs` must hold at least one image, got shape \(0, 6\)"),
        (lambda c, o, i: (c, o, [i]), "`inputs` must be a torch.Tensor, or .* got a list"),
        (lambda c, o, i: (c, o, i / 0), "layer '0': its output for `inputs` is not finite in one of the networks"),
        (lambda c, o, i: (3, o, i), "`converted` must be a torch.nn.Module, got 3"),
        (lambda c, o, i: (c, 3, i), "`original` must be a torch.nn.Module, got 3"),
    ],
)
def test_what_cannot_be_corrected_is_refused(given: Callable[..., tuple[Any, Any, Any]], complaint: str) -> None:
    original, inputs = nn.Sequential(nn.Linear(6, 5)), noise(10, 6)
    with pytest.raises(ArgumentError, match=complaint):
        correct_bias(*given(convert(original, inputs), original, inputs))
