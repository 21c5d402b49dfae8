import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from approx import (
    Architecture,
    LabelledImages,
    LayerApproximation,
    Schedule,
    accuracy,
    approx_layers,
    approximate,
    build_network,
    fit,
    global_magnitude_masks,
    gradual_sparsities,
    magnitude_masks,
    measured_sparsity,
    n_m_masks,
    prune_and_retrain,
    weight_layers,
)
from approx.errors import ArgumentError

EIGHT_EXACT_BITS = LayerApproximation(weight_bits=8, activation_bits=8, multiplier="exact")
SCHEDULE = Schedule(epochs=3, batch_size=16, learning_rate=1e-2)

WeightLayer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
Method = Callable[[Mapping[str, Tensor], float], Mapping[str, Tensor]]

sparsities = st.floats(0, 0.99)


@st.composite
def some_weights(draw: st.DrawFn) -> dict[str, Tensor]:
    """One to four layers, drawn from so few values that many magnitudes are equal."""
    shapes = draw(st.lists(st.sampled_from([(1,), (7,), (3, 4), (2, 3, 2, 2)]), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    values = draw(st.sampled_from([2, 10, 10**6]))
    return {
        str(i): torch.randint(-values, values + 1, shape, generator=generator) / values
        for i, shape in enumerate(shapes)
    }


def network() -> nn.Sequential:
    return build_network(Architecture(family="lenet", depth=1, width=3), image_shape=(1, 8, 8), classes=3, seed=0)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: layer.weight.detach() for name, layer in weight_layers(model)}


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    """Three classes that differ in which rows are bright."""
    labels = torch.arange(90) % 3
    pixels = torch.randint(0, 100, (90, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for index, label in enumerate(labels.tolist()):
        pixels[index, 0, 2 * label : 2 * label + 2] += 150
    return LabelledImages(pixels, labels, 255)


@given(st.integers(2, 200), sparsities)
def test_density_equals_the_request(size: int, sparsity: float) -> None:
    weight = torch.randn(size, generator=torch.Generator().manual_seed(size))
    mask = magnitude_masks({"layer": weight}, sparsity)["layer"]
    assert (~mask).sum() == min(round(sparsity * size), size - 1)
    if 0 < mask.sum() < size:
        assert weight[~mask].abs().max() <= weight[mask].abs().min()


@given(some_weights(), sparsities)
def test_the_smallest_go_first_and_of_equal_ones_the_earlier(weights: dict[str, Tensor], sparsity: float) -> None:
    for name, mask in magnitude_masks(weights, sparsity).items():
        magnitudes = weights[name].abs().flatten()
        dropped = min(round(sparsity * len(magnitudes)), len(magnitudes) - 1)
        in_order = sorted(range(len(magnitudes)), key=lambda i, m=magnitudes: (m[i], i))  # type: ignore[misc]
        assert mask.shape == weights[name].shape
        assert (~mask).flatten().nonzero().flatten().tolist() == sorted(in_order[:dropped])


@given(some_weights(), sparsities)
def test_a_global_threshold_drops_the_share_of_all_weights(weights: dict[str, Tensor], sparsity: float) -> None:
    entries = [(name, i, value) for name, w in weights.items() for i, value in enumerate(w.abs().flatten().tolist())]
    last_to_go = {name: max((v, i) for other, i, v in entries if other == name)[1] for name in weights}
    may_go = [entry for entry in entries if entry[1] != last_to_go[entry[0]]]
    dropped = min(round(sparsity * len(entries)), len(may_go))
    expected = {(name, i) for name, i, _ in sorted(may_go, key=lambda entry: entry[2])[:dropped]}  # sorting is stable
    masks = global_magnitude_masks(weights, sparsity)
    found = {(name, i) for name, mask in masks.items() for i in (~mask).flatten().nonzero().flatten().tolist()}
    assert found == expected
    assert len(found) == dropped
    assert {name: mask.shape for name, mask in masks.items()} == {name: w.shape for name, w in weights.items()}


def test_equal_magnitudes_go_in_order() -> None:
    assert magnitude_masks({"layer": torch.ones(4)}, 0.5)["layer"].tolist() == [False, False, True, True]
    masks = global_magnitude_masks({"first": torch.ones(3), "second": -torch.ones(3)}, 0.5)
    assert masks["first"].tolist() == [False, False, True]
    assert masks["second"].tolist() == [False, True, True]


def test_nothing_to_prune_gives_no_masks() -> None:
    assert magnitude_masks({}, 0.5) == global_magnitude_masks({}, 0.5) == {}


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    for masks in (magnitude_masks, global_magnitude_masks):
        with pytest.raises(ArgumentError, match=r"`sparsity` must be in \[0, 1\)"):
            masks({"layer": torch.ones(4)}, sparsity)
    with pytest.raises(ArgumentError, match=r"`sparsity` must be in \[0, 1\)"):
        gradual_sparsities(sparsity, 2)


def brute_force_n_m(layer: WeightLayer, n: int, m: int) -> Tensor:
    """Group by group, where a group is found by what the layer does: which inputs reach an output."""
    mask = torch.zeros_like(layer.weight, dtype=torch.bool)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    transposed = isinstance(layer, nn.ConvTranspose2d)
    inputs = layer.weight.shape[0] // groups if transposed else layer.weight.shape[1]
    outputs = layer.weight.shape[1] * groups if transposed else layer.weight.shape[0]
    for output in range(outputs):
        group, within = divmod(output, outputs // groups)
        for position in torch.ones(layer.weight.shape[2:]).nonzero().tolist():
            for start in range(0, inputs, m):
                places = [
                    (group * inputs + i, within, *position) if transposed else (output, i, *position)
                    for i in range(start, min(start + m, inputs))
                ]
                kept = -(-n * len(places) // m)
                places.sort(key=lambda place: abs(layer.weight[place].item()))  # stable
                for place in places[len(places) - kept :]:
                    mask[place] = True
    return mask


@given(
    st.sampled_from(
        [
            lambda: nn.Linear(16, 5),
            lambda: nn.Linear(7, 3),
            lambda: nn.Linear(1, 3),
            lambda: nn.Conv2d(6, 4, (2, 3)),
            lambda: nn.Conv2d(12, 4, 2, groups=2),
            lambda: nn.Conv2d(4, 4, 3, groups=4),
            lambda: nn.ConvTranspose2d(6, 4, (2, 3)),
            lambda: nn.ConvTranspose2d(10, 4, 2, groups=2),
        ]
    ),
    st.integers(1, 8),
    st.data(),
)
def test_n_of_every_m_input_channels_are_kept(make: Callable[[], WeightLayer], m: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m))
    layer = make()
    with torch.no_grad():  # few values, so that some are equal
        layer.weight.copy_(torch.randint(-3, 4, layer.weight.shape, generator=torch.Generator().manual_seed(m)))
    mask = n_m_masks({"layer": layer}, n, m)["layer"]
    assert mask.dtype == torch.bool
    assert mask.is_contiguous()
    assert torch.equal(mask, brute_force_n_m(layer, n, m))


def test_two_of_four_is_half_where_four_divides_the_channels() -> None:
    masks = n_m_masks({"conv": nn.Conv2d(8, 6, 3), "up": nn.ConvTranspose2d(8, 6, 3), "fc": nn.Linear(32, 10)}, 2, 4)
    assert all(mask.sum() * 2 == mask.numel() for mask in masks.values())


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (0, 0), (-1, 2)])
def test_n_m_out_of_range_is_refused(n: int, m: int) -> None:
    with pytest.raises(ArgumentError, match=f"with 1 <= n <= m, got {n}:{m}"):
        n_m_masks({"layer": nn.Linear(4, 4)}, n, m)


@given(sparsities, st.integers(1, 20))
def test_gradual_sparsities_rise_ever_more_slowly_to_exactly_the_last(final: float, steps: int) -> None:
    found = gradual_sparsities(final, steps)
    assert len(found) == steps
    assert found[-1] == final
    rises = [after - before for before, after in pairwise([0.0, *found])]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rises))
    assert all(rise >= 0 for rise in rises)


def test_gradual_sparsities_are_the_papers() -> None:
    """Equation 1 with s_i = 0, t_0 = 0, n = 4 and delta t = 1, by hand: 1 - (3/4)^3 = 37/64 and so on."""
    assert gradual_sparsities(0.64, 4) == pytest.approx([0.37, 0.56, 0.63, 0.64])
    with pytest.raises(ArgumentError, match="`steps` must be at least 1, got 0"):
        gradual_sparsities(0.5, 0)


@pytest.mark.parametrize("method", [magnitude_masks, global_magnitude_masks])
@pytest.mark.parametrize("steps", [1, 3])
def test_pruning_with_retraining_ends_at_exactly_the_sparsity(
    images: LabelledImages, method: Method, steps: int
) -> None:
    model = network()
    fit(model, images, Schedule(epochs=10, batch_size=16, learning_rate=1e-2), seed=0)
    weights = weights_of(model)
    asked: list[float] = []
    seen: list[Mapping[str, Tensor]] = []

    def noted(weights: Mapping[str, Tensor], sparsity: float) -> Mapping[str, Tensor]:
        asked.append(sparsity)
        seen.append(method(weights, sparsity))
        return seen[-1]

    masks = prune_and_retrain(model, images, SCHEDULE, sparsity=0.8, steps=steps, method=noted, seed=1)
    assert asked == gradual_sparsities(0.8, steps)
    for earlier, later in pairwise(seen):
        assert all((earlier[name] | ~later[name]).all() for name in masks)  # what has gone never comes back
    for name, mask in masks.items():
        assert torch.equal(mask, seen[-1][name])
        assert (weights_of(model)[name][~mask] == 0).all()
    measured = measured_sparsity(model)
    if method is magnitude_masks:
        assert measured.layers == {name: round(0.8 * w.numel()) / w.numel() for name, w in weights.items()}
    size = sum(weight.numel() for weight in weights.values())
    assert measured.total == pytest.approx(0.8, abs=len(weights) / size)
    assert accuracy(model, images) > 0.9


def test_sparsity_rises_in_the_first_half_of_the_retraining(images: LabelledImages) -> None:
    model = network()
    kept: list[int] = []
    model.register_forward_pre_hook(
        lambda *_: kept.append(sum(int((weight != 0).sum()) for weight in weights_of(model).values()))
    )
    total = sum(weight.numel() for weight in weights_of(model).values())
    schedule = Schedule(epochs=12, batch_size=len(images), learning_rate=1e-3)
    prune_and_retrain(model, images, schedule, sparsity=0.8, steps=4, method=global_magnitude_masks, seed=0)
    shares = gradual_sparsities(0.8, 4)  # before the first step, and after 2, 4 and 6 of 12
    expected = [shares[place] for place in (0, 0, 1, 1, 2, 2, *[3] * 6)]
    assert kept == [total - round(share * total) for share in expected]


def test_patience_and_several_steps_exclude_each_other(images: LabelledImages) -> None:
    patient = replace(SCHEDULE, patience=2)
    with pytest.raises(ArgumentError, match="may have been pruned less; prune in one of `steps`"):
        prune_and_retrain(network(), images, patient, sparsity=0.5, steps=2, seed=0, validation=images)


def test_one_step_is_pruning_and_one_fit(images: LabelledImages) -> None:
    model, other = network(), network()
    masks = prune_and_retrain(model, images, SCHEDULE, sparsity=0.5, seed=7)
    expected = magnitude_masks(weights_of(other), 0.5)
    fit(other, images, SCHEDULE, seed=7, masks=expected)
    assert all(torch.equal(masks[name], mask) for name, mask in expected.items())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_kept_weights_that_become_zero_do_not_go_instead_of_pruned_ones(images: LabelledImages) -> None:
    layer = nn.Linear(64, 1)
    layer.weight = nn.Parameter(torch.arange(64, 0, -1.0)[None])
    untrained = Schedule(epochs=0, batch_size=16, learning_rate=1e-2)

    def then_all_become_zero(weights: Mapping[str, Tensor], sparsity: float) -> Mapping[str, Tensor]:
        masks = magnitude_masks(weights, sparsity)
        with torch.no_grad():
            layer.weight.zero_()
        return masks

    masks = prune_and_retrain(
        nn.Sequential(nn.Flatten(), layer),
        images,
        untrained,
        sparsity=0.5,
        steps=2,
        method=then_all_become_zero,
        seed=0,
    )
    first, second = (round(share * 64) for share in gradual_sparsities(0.5, 2))
    gone = [*range(second - first), *range(64 - first, 64)]
    assert (~masks["1"][0]).nonzero().flatten().tolist() == gone


def test_a_network_without_weights_is_refused(images: LabelledImages) -> None:
    converted = approximate(network(), EIGHT_EXACT_BITS, calibration_data=images.inputs(slice(0, 9)))
    for nothing in (nn.Sequential(nn.Flatten()), converted):
        with pytest.raises(ArgumentError, match="no layer to prune"):
            prune_and_retrain(nothing, images, SCHEDULE, sparsity=0.5, seed=0)
    with pytest.raises(ArgumentError, match="no layer whose weights can be counted"):
        measured_sparsity(nn.Flatten())


@given(sparsities)
def test_measured_sparsity_is_what_was_asked_for(sparsity: float) -> None:
    model = nn.Sequential(nn.Linear(10, 7), nn.ConvTranspose2d(3, 2, 2))
    with torch.no_grad():
        for weights in weights_of(model).values():  # drawn weights can be zero without having been pruned
            weights.copy_(1 + torch.randperm(weights.numel()).reshape(weights.shape))
        for name, mask in magnitude_masks(weights_of(model), sparsity).items():
            model.get_parameter(f"{name}.weight").mul_(mask)
    dropped = [min(round(sparsity * 70), 69), min(round(sparsity * 24), 23)]
    measured = measured_sparsity(model)
    assert measured.layers == {"0": dropped[0] / 70, "1": dropped[1] / 24}
    assert measured.total == sum(dropped) / 94


@pytest.mark.parametrize("pattern", ["magnitude", "global", "2:4"])
def test_masks_survive_retraining_quantisation_and_saving(images: LabelledImages, pattern: str) -> None:
    model = network()
    weights = weights_of(model)
    if pattern == "2:4":
        masks = n_m_masks(dict(weight_layers(model)), 2, 4)
    else:
        masks = {"magnitude": magnitude_masks, "global": global_magnitude_masks}[pattern](weights, 0.6)

    def assert_pruned(tensors: Mapping[str, Tensor]) -> None:
        assert tensors.keys() == masks.keys()
        for name, values in tensors.items():
            assert (values[~masks[name]] == 0).all()
            assert (values[masks[name]] != 0).any()

    fit(model, images, SCHEDULE, seed=0, masks=masks)
    assert_pruned(weights_of(model))
    pruned = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert measured_sparsity(model).total == pruned

    converted = approximate(model, EIGHT_EXACT_BITS, calibration_data=images.inputs(slice(0, 50)), masks=masks)
    fit(converted, images, SCHEDULE, seed=0)
    loaded = approximate(network(), EIGHT_EXACT_BITS, calibration_data=images.inputs(slice(50, 60)))
    loaded.load_state_dict(copy.deepcopy(converted.state_dict()))
    for one in (converted, loaded, copy.deepcopy(converted)):
        assert_pruned({name: layer.stored_codes() for name, layer in approx_layers(one)})
        assert measured_sparsity(one) == measured_sparsity(converted)
    fit(loaded, images, SCHEDULE, seed=0)
    assert_pruned({name: layer.stored_codes() for name, layer in approx_layers(loaded)})


def test_codes_that_quantisation_makes_zero_are_counted(images: LabelledImages) -> None:
    model = network()
    coarse = LayerApproximation(weight_bits=2, activation_bits=8, multiplier="exact")
    converted = approximate(model, coarse, calibration_data=images.inputs(slice(0, 50)))
    codes = {name: layer.stored_codes() for name, layer in approx_layers(converted)}
    measured = measured_sparsity(converted)
    assert measured_sparsity(model).total == 0
    assert measured.total > 0.1
    assert measured.layers == {name: int((code == 0).sum()) / code.numel() for name, code in codes.items()}
