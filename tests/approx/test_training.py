import pytest
import torch
from torch import nn

from approx import Architecture, LabelledImages, Schedule, accuracy, build_network, fit, magnitude_masks, weight_layers
from approx.errors import ArgumentError
from approx.training import DivergedError

ARCHITECTURE = Architecture(family="mlp", depth=1, width=2)


def network(seed: int = 0) -> nn.Sequential:
    return build_network(ARCHITECTURE, image_shape=(1, 4, 4), classes=3, seed=seed)


@pytest.fixture
def images() -> LabelledImages:
    """Three classes that differ in which row is bright."""
    labels = torch.arange(90) % 3
    pixels = torch.randint(0, 100, (90, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for index, label in enumerate(labels.tolist()):
        pixels[index, 0, label] += 150
    return LabelledImages(pixels, labels, 255)


def test_training_learns_and_depends_on_its_seed_alone(images: LabelledImages) -> None:
    schedule = Schedule(epochs=10, batch_size=16, learning_rate=1e-2)
    first, second, third = network(), network(), network()
    fit(first, images, schedule, seed=1)
    torch.rand(100)  # whatever else draws from the global generator
    fit(second, images, schedule, seed=1)
    fit(third, images, schedule, seed=2)
    assert accuracy(first, images) > 0.95
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))


def test_nothing_touches_the_global_random_state(images: LabelledImages) -> None:
    before = torch.get_rng_state()
    fit(network(), images, Schedule(epochs=1, batch_size=16, learning_rate=1e-2), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_masked_weights_stay_zero(images: LabelledImages) -> None:
    model = network()
    masks = magnitude_masks({name: layer.weight for name, layer in weight_layers(model)}, 0.5)
    fit(model, images, Schedule(epochs=2, batch_size=16, learning_rate=1e-2), seed=0, masks=masks)
    for name, layer in weight_layers(model):
        assert (layer.weight[~masks[name]] == 0).all()
        assert (layer.weight[masks[name]] != 0).all()


def test_fractions_of_an_epoch(images: LabelledImages) -> None:
    model, untouched = network(), network()
    fit(model, images, Schedule(epochs=0, batch_size=16, learning_rate=1e-2), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))
    fit(model, images, Schedule(epochs=0.2, batch_size=16, learning_rate=1e-2), seed=0)
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))


def test_divergence_is_an_error(images: LabelledImages) -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match="the loss became nan"):
        fit(model, images, Schedule(epochs=1, batch_size=16, learning_rate=1e-2), seed=0)


def test_images_and_labels_must_match() -> None:
    with pytest.raises(ArgumentError, match="2 images but 3 labels"):
        LabelledImages(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), 255)
