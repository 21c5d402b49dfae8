import copy
import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx import (
    Architecture,
    Distillation,
    FaultyMemory,
    LabelledImages,
    LayerApproximation,
    Schedule,
    accuracy,
    approx_layers,
    approximate,
    build_network,
    chip_accuracies,
    fit,
    magnitude_masks,
    set_memory,
    training,
    use_chip,
    weight_layers,
)
from approx.errors import ArgumentError, DivergedError

ARCHITECTURE = Architecture(family="mlp", depth=1, width=2)
EVERYTHING = Schedule(
    epochs=2,
    batch_size=16,
    learning_rate=1e-2,
    warm_up=0.1,
    optimizer="sgd",
    weight_decay=1e-3,
    label_smoothing=0.1,
    augmentation="crop-flip",
    patience=3,
)


def network(seed: int = 0) -> nn.Sequential:
    return build_network(ARCHITECTURE, image_shape=(1, 4, 4), classes=3, seed=seed)


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    """Three classes that differ in which row is bright."""
    labels = torch.arange(90) % 3
    pixels = torch.randint(0, 100, (90, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for index, label in enumerate(labels.tolist()):
        pixels[index, 0, label] += 150
    return LabelledImages(pixels, labels, 255)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_training_learns_and_depends_on_its_seed_alone(images: LabelledImages) -> None:
    schedule = Schedule(epochs=10, batch_size=16, learning_rate=1e-2)
    first, second, third = network(), network(), network()
    fit(first, images, schedule, seed=1)
    torch.rand(100)  # whatever else draws from the global generator
    fit(second, images, schedule, seed=1)
    fit(third, images, schedule, seed=2)
    assert accuracy(first, images) > 0.95
    assert same(first, second)
    assert not same(first, third)


@pytest.mark.parametrize("changed", ["nothing", "seed"])
def test_everything_random_comes_from_the_seed_and_the_global_state_is_left(
    images: LabelledImages, changed: str
) -> None:
    """Order, augmentation, dropout, bit errors."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 20), nn.ReLU(), nn.Dropout(0.3), nn.Linear(20, 3))
    results = []
    for run in range(2):
        made = approximate(model, LayerApproximation(), calibration_data=images.inputs(slice(0, 90)))
        torch.rand(7 * run)
        before = torch.get_rng_state()
        fit(
            made,
            images,
            EVERYTHING,
            seed=run if changed == "seed" else 0,
            validation=images,
            bit_errors=FaultyMemory(bit_error_rate=0.05, transient_rate=0.01),
        )
        assert torch.equal(torch.get_rng_state(), before)
        results.append(made)
    assert same(*results) == (changed == "nothing")


def test_masked_weights_stay_zero(images: LabelledImages) -> None:
    model = network()
    masks = magnitude_masks({name: layer.weight for name, layer in weight_layers(model)}, 0.5)
    schedule = Schedule(epochs=2, batch_size=16, learning_rate=1e-2, optimizer="sgd", weight_decay=0.1)
    fit(model, images, schedule, seed=0, masks=masks)
    for name, layer in weight_layers(model):
        assert (layer.weight[~masks[name]] == 0).all()
        assert (layer.weight[masks[name]] != 0).all()


def test_fractions_of_an_epoch(images: LabelledImages) -> None:
    model, untouched = network(), network()
    fit(model, images, Schedule(epochs=0, batch_size=16, learning_rate=1e-2), seed=0)
    assert same(model, untouched)
    fit(model, images, Schedule(epochs=0.2, batch_size=16, learning_rate=1e-2), seed=0)
    assert not same(model, untouched)


def test_divergence_is_an_error(images: LabelledImages) -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match="the loss became nan"):
        fit(model, images, Schedule(epochs=1, batch_size=16, learning_rate=1e-2), seed=0)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"epochs": -1}, "`epochs` must be at least 0, got -1"),
        ({"epochs": math.nan}, "`epochs` must be at least 0, got nan"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"learning_rate": 0}, "`learning_rate` must be positive, got 0"),
        ({"learning_rate": math.inf}, "`learning_rate` must be positive, got inf"),
        ({"warm_up": 1.0}, r"`warm_up` must be in \[0, 1\), got 1\.0"),
        ({"optimizer": "lion"}, "`optimizer` must be one of adam, sgd; got 'lion'"),
        ({"weight_decay": -1}, "`weight_decay` must be at least 0, got -1"),
        (
            {"precision": "float64"},
            "`precision` must be one of float32, float32-channels-last, bfloat16; got 'float64'",
        ),
        ({"max_weight": 0}, "`max_weight` must be positive, got 0"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` must be in \[0, 1\), got 1\.0"),
        ({"augmentation": "mixup"}, "`augmentation` must be one of none, crop-flip; got 'mixup'"),
        ({"patience": 0}, "`patience` must be at least 1, got 0"),
    ],
)
def test_schedules_that_cannot_be_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        Schedule(**{"epochs": 1, "batch_size": 4, "learning_rate": 0.1, **wrong})


# ---- against training written out --------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("warm_up", [0.0, 0.25])
def test_a_schedule_is_torchs_optimizer_with_these_rates(
    images: LabelledImages, optimizer: str, warm_up: float
) -> None:
    """On all images in each step, so that their order does not matter."""
    schedule = Schedule(
        epochs=12,
        batch_size=90,
        learning_rate=0.05,
        warm_up=warm_up,
        optimizer=optimizer,
        weight_decay=0.01,
        label_smoothing=0.2,
    )
    model, own = network(), network()
    fit(model, images, schedule, seed=0)

    rising = round(12 * warm_up)
    rates = [0.05 * (step + 1) / (rising + 1) for step in range(rising)]
    rates += [0.025 * (1 + math.cos(math.pi * step / (12 - rising))) for step in range(12 - rising)]
    groups = [{"params": [one], "weight_decay": 0.01 if one.dim() > 1 else 0.0} for one in own.parameters()]
    made: torch.optim.Optimizer = (
        torch.optim.Adam(groups)
        if optimizer == "adam"
        else torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    )
    inputs = images.inputs(slice(0, 90))
    target = F.one_hot(images.labels, 3) * 0.8 + 0.2 / 3
    for rate in rates:
        for group in made.param_groups:
            group["lr"] = rate
        made.zero_grad()
        (-(own(inputs).log_softmax(1) * target).sum(1).mean()).backward()
        made.step()
    for a, b in zip(model.parameters(), own.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def test_images_are_shifted_and_mirrored_alike_in_all_channels() -> None:
    inputs = torch.rand(200, 1, 7, 9, generator=torch.Generator().manual_seed(0)).repeat(1, 2, 1, 1) + 0.1
    inputs[:, 1] += 10
    found = training._crop_and_flip(inputs, torch.zeros(2), torch.Generator().manual_seed(1))
    assert found.shape == inputs.shape
    padded = F.pad(inputs, (4, 4, 4, 4))
    seen = set()
    for image, crops in zip(found, padded, strict=True):
        shifts = [(down, right) for down in range(9) for right in range(9)]
        cuts = {(*shift, False): crops[:, shift[0] : shift[0] + 7, shift[1] : shift[1] + 9] for shift in shifts}
        cuts |= {(down, right, True): cut.flip(2) for (down, right, _), cut in cuts.items()}
        (match,) = [name for name, cut in cuts.items() if torch.equal(cut, image)]
        seen.add(match)
    assert {down for down, _, _ in seen} == {right for _, right, _ in seen} == set(range(9))
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_what_is_shifted_in_is_black_whatever_the_normalisation() -> None:
    """White images, of which no input is anything but white and black."""
    white = torch.full((30, 2, 6, 6), 255, dtype=torch.uint8)
    images = LabelledImages(white, torch.arange(30) % 3, 255, mean=(0.5, 0.2), std=(0.25, 0.4))
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    fit(model, images, replace(EVERYTHING, patience=None, epochs=1), seed=0)
    first, second = torch.cat(seen).unbind(1)
    assert set(first.flatten().tolist()) == {-2.0, 2.0}
    assert {round(value, 5) for value in second.flatten().tolist()} == {-0.5, 2.0}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], list[nn.Module]]:
    """Let validation find these accuracies; gives the network as it was each time."""

    def judge(accuracies: list[float]) -> list[nn.Module]:
        seen: list[nn.Module] = []

        def found(model: nn.Module, images: LabelledImages) -> float:
            seen.append(copy.deepcopy(model))
            return accuracies[len(seen) - 1]

        monkeypatch.setattr(training, "share_correct", found)
        return seen

    return judge


@pytest.mark.parametrize(
    ("accuracies", "epochs", "patience", "judgements", "best"),
    [
        ([0.5, 0.6, 0.6, 0.59, 0.9], 5.0, 2, 4, 1),  # stops after two epochs that are no better
        ([0.5, 0.4, 0.6, 0.5, 0.7], 5.0, 2, 5, 4),
        ([0.5, 0.4], 5.0, 1, 2, 0),
        ([0.1, 0.2, 0.3], 3.0, 1, 3, 2),
        ([0.1, 0.2, 0.3], 2.5, 1, 3, 2),  # the last part of an epoch counts
        ([0.1, 0.3, 0.2], 2.5, 1, 3, 1),
        ([0.7], 0.5, 1, 1, 0),
    ],
)
def test_patience_keeps_the_best_network(
    images: LabelledImages,
    judged: Callable[[list[float]], list[nn.Module]],
    accuracies: list[float],
    epochs: float,
    patience: int,
    judgements: int,
    best: int,
) -> None:
    seen = judged(accuracies)
    model = network()
    schedule = Schedule(epochs=epochs, batch_size=16, learning_rate=1e-2, patience=patience)
    fit(model, images, schedule, seed=0, validation=images)
    assert len(seen) == judgements
    assert same(model, seen[best])
    assert not any(same(model, other) for index, other in enumerate(seen) if index != best)
    assert not model.training


def test_patience_and_validation_images_go_together(images: LabelledImages) -> None:
    schedule = Schedule(epochs=1, batch_size=16, learning_rate=1e-2)
    with pytest.raises(ArgumentError, match="go together"):
        fit(network(), images, schedule, seed=0, validation=images)
    with pytest.raises(ArgumentError, match="go together"):
        fit(network(), images, replace(schedule, patience=1), seed=0)


# ---- bit errors --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    from sklearn.datasets import load_digits

    found = load_digits()
    return LabelledImages(torch.tensor(found.images).to(torch.uint8)[:, None], torch.tensor(found.target), 16)


@pytest.fixture(scope="module")
def trained(digits: LabelledImages) -> nn.Module:
    architecture = Architecture(family="mlp", depth=1, width=3)
    model = build_network(architecture, image_shape=(1, 8, 8), classes=10, seed=0)
    fit(model, digits, Schedule(epochs=15, batch_size=64, learning_rate=3e-3), seed=0)
    return model


def converted(model: nn.Module, images: LabelledImages, **options: Any) -> nn.Module:
    return approximate(model, LayerApproximation(**options), calibration_data=images.inputs(slice(0, 200)))


@pytest.mark.slow
def test_training_with_bit_errors_makes_a_network_robust(trained: nn.Module, digits: LabelledImages) -> None:
    errors = FaultyMemory(bit_error_rate=0.1)
    schedule = Schedule(epochs=15, batch_size=64, learning_rate=3e-3)
    found = {}
    for name, bit_errors in (("plain", None), ("hardened", errors)):
        model = converted(trained, digits, weight_memory=FaultyMemory(bit_error_rate=0.5))
        fit(model, digits, schedule, seed=0, bit_errors=bit_errors)
        for _, layer in approx_layers(model):  # as they were, and off any chip
            assert layer.weight_memory == FaultyMemory(bit_error_rate=0.5)
            assert torch.equal(layer.read_codes(), layer.stored_codes())
        set_memory(model, weights=errors)
        found[name] = fmean(chip_accuracies(model, digits, range(100, 110)))
    assert found["hardened"] > found["plain"] + 0.05


def test_bit_errors_are_those_of_other_chips_in_every_step_beside_the_network_as_it_is(images: LabelledImages) -> None:
    model = converted(network(), images, weight_bits=8)
    use_chip(model, 7)
    seen: list[Tensor] = []
    layer = dict(approx_layers(model))["1"]
    layer.register_forward_hook(lambda *_: seen.append(layer.read_codes().detach()))
    fit(
        model,
        images,
        Schedule(epochs=3, batch_size=90, learning_rate=1e-9),
        seed=0,
        bit_errors=FaultyMemory(bit_error_rate=0.1),
    )
    assert len(seen) == 6
    stored = layer.stored_codes()
    assert all(torch.equal(one, stored) for one in seen[::2])
    struck = [(one != stored) for one in seen[1::2]]
    assert all(one.any() for one in struck)
    assert not any(torch.equal(struck[i], struck[j]) for i in range(3) for j in range(i))


def test_a_network_that_fails_on_a_faulty_chip_gets_its_memories_back(images: LabelledImages) -> None:
    model = converted(network(), images)
    calls = []

    def fail_the_second_time(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no")

    model.register_forward_pre_hook(fail_the_second_time)
    schedule = Schedule(epochs=1, batch_size=90, learning_rate=1e-3)
    with pytest.raises(RuntimeError, match="no"):
        fit(model, images, schedule, seed=0, bit_errors=FaultyMemory(bit_error_rate=0.1))
    for _, layer in approx_layers(model):
        assert layer.weight_memory is None
        assert torch.equal(layer.read_codes(), layer.stored_codes())


def test_bit_errors_need_codes(images: LabelledImages) -> None:
    schedule = Schedule(epochs=1, batch_size=16, learning_rate=1e-2)
    with pytest.raises(ArgumentError, match=r"convert it with approximate\(\)"):
        fit(network(), images, schedule, seed=0, bit_errors=FaultyMemory(bit_error_rate=0.1))


def hooked_memories(model: nn.Module) -> dict[str, list[FaultyMemory | None]]:
    """Note the memory of each layer whenever it runs: layer name -> memories."""
    seen: dict[str, list[FaultyMemory | None]] = {}
    for name, layer in approx_layers(model):
        seen[name] = []
        layer.register_forward_hook(lambda one, *_, notes=seen[name]: notes.append(one.weight_memory))
    return seen


def test_each_layer_may_have_bit_errors_of_its_own(images: LabelledImages) -> None:
    model = converted(network(), images, weight_bits=8)
    names = [name for name, _ in approx_layers(model)]
    memories = dict.fromkeys(names[1:]) | {names[0]: FaultyMemory(bit_error_rate=0.1)}
    seen = hooked_memories(model)
    schedule = Schedule(epochs=1, batch_size=90, learning_rate=1e-3)
    fit(model, images, schedule, seed=0, bit_errors=memories)
    assert seen == {name: [None, memories[name]] for name in names}
    with pytest.raises(ArgumentError, match=f"for each layer on codes and for no other; look at '{names[0]}'"):
        fit(model, images, schedule, seed=0, bit_errors=dict.fromkeys(names[1:]))
    with pytest.raises(ArgumentError, match=r"an approx\.FaultyMemory or None for each layer, got 0\.1"):
        fit(model, images, schedule, seed=0, bit_errors={**memories, names[0]: 0.1})  # type: ignore[dict-item]


def largest_of(model: nn.Module, kind: str) -> float:
    """The largest magnitude of its weights or biases."""
    return max(float(one.detach().abs().max()) for name, one in model.named_parameters() if name.endswith(kind))


@pytest.mark.parametrize("on_codes", [False, True])
def test_weights_are_clipped_before_and_after_every_step_and_biases_are_not(
    images: LabelledImages, on_codes: bool
) -> None:
    model: nn.Module = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    if on_codes:
        model = converted(model, images)
    largest: list[float] = []
    handle = model.register_forward_pre_hook(lambda *_: largest.append(largest_of(model, "weight")))
    schedule = Schedule(epochs=3, batch_size=30, learning_rate=0.1, max_weight=0.25)
    fit(model, images, schedule, seed=0)
    handle.remove()
    assert len(largest) == 9
    assert max(largest) == 0.25
    assert largest_of(model, "weight") <= 0.25
    assert largest_of(model, "bias") > 0.25


def test_distillation_learns_the_outputs_of_the_teacher(images: LabelledImages) -> None:
    """With labels that say nothing, what the teacher knows is all that can be learned."""
    teacher, student, alone = network(), network(1), network(1)
    schedule = Schedule(epochs=20, batch_size=16, learning_rate=1e-2)
    fit(teacher, images, schedule, seed=0)
    before = copy.deepcopy(teacher.state_dict())
    blind = replace(images, labels=torch.zeros_like(images.labels))
    fit(student, blind, schedule, seed=0, distillation=Distillation(teacher=teacher, share=1.0))
    fit(alone, blind, schedule, seed=0)
    assert accuracy(teacher, images) > 0.9
    assert accuracy(student, images) > 0.9
    assert accuracy(alone, images) < 0.5
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(("share", "temperature"), [(0.0, 4.0), (0.3, 2.0), (1.0, 1.0)])
def test_the_loss_of_distillation_is_the_papers(images: LabelledImages, share: float, temperature: float) -> None:
    """By hand: a step of SGD moves weights by the rate times the gradient (Hinton et al., section 2)."""
    teacher, model, own = network(5), network(), network()
    one_step = Schedule(epochs=1, batch_size=90, learning_rate=0.01, optimizer="sgd", label_smoothing=0.2)
    fit(
        model,
        images,
        one_step,
        seed=0,
        distillation=Distillation(teacher=teacher, temperature=temperature, share=share),
    )
    inputs = images.inputs(slice(0, 90))
    soft = (teacher(inputs).detach() / temperature).softmax(1)
    scores = own(inputs)
    target = F.one_hot(images.labels, 3) * 0.8 + 0.2 / 3
    hard_loss = -(scores.log_softmax(1) * target).sum(1).mean()
    divergence = (soft * (soft.log() - (scores / temperature).log_softmax(1))).sum(1).mean()
    ((1 - share) * hard_loss + share * temperature**2 * divergence).backward()
    for found, parameter in zip(model.parameters(), own.parameters(), strict=True):
        assert parameter.grad is not None
        expected = parameter - 0.01 * 1.9 * parameter.grad  # Nesterov's first step
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0}, "`temperature` must be positive, got 0"),
        ({"share": 1.5}, r"`share` must be in \[0, 1\], got 1.5"),
        ({"teacher": "large"}, "`teacher` must be"),
    ],
)
def test_distillation_that_is_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Distillation(**{"teacher": network(), **values})


def test_a_teacher_of_other_classes_is_refused(images: LabelledImages) -> None:
    teacher = build_network(ARCHITECTURE, image_shape=(1, 4, 4), classes=4, seed=0)
    schedule = Schedule(epochs=1, batch_size=16, learning_rate=1e-2)
    with pytest.raises(ArgumentError, match=r"has outputs of shape \(16, 4\) where the network has \(16, 3\)"):
        fit(network(), images, schedule, seed=0, distillation=Distillation(teacher=teacher))


def test_a_loss_that_is_no_number_says_where_and_what_to_do(images: LabelledImages) -> None:
    schedule = Schedule(epochs=2, batch_size=45, learning_rate=1e30, optimizer="sgd")
    with pytest.raises(DivergedError, match=r"in step \d of 4; lower `learning_rate`, which is 1e\+30"):
        fit(network(), images, schedule, seed=0)
