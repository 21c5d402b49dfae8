from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from approx import Architecture, ArgumentError, build_network, find_multiplier
from search.errors import UnknownNameError, UsageError
from search.images.dataset import Dataset
from search.images.splits import split_sizes
from search.multipliers.choice import MULTIPLIERS
from search.space.effort import Recipe, effort_for
from search.space.task import (
    _MOST_PRODUCTS,
    CustomNetwork,
    Task,
    Train,
    check_networks,
    find_task,
    task_names,
    task_of,
)

CUSTOM = CustomNetwork(path="package.nets:build", folder="/here", max_depth=3, max_width=8, fingerprint="0" * 64)
DIGITS = find_task("digits")
FLOWERS = Dataset(
    name="flowers",
    digest="0123456789abcdef" * 4,
    title="flowers",
    image_shape=(3, 40, 48),
    class_names=("rose", "tulip", "daisy"),
    counts={"train": 200, "test": 100},
    location="/photos/flowers",
)


@pytest.mark.parametrize("name", task_names())
def test_a_built_in_task_is_stored_under_its_name(name: str) -> None:
    task = find_task(name)
    assert task.identity == name == task.words
    assert Task.from_dict(task.to_dict()) == task
    assert task.options == f"--dataset {name}"


def test_a_task_with_a_custom_network_is_stored_separately() -> None:
    task = DIGITS.with_network(CUSTOM)
    assert task.identity.startswith("digits/")
    assert task.words == "digits, package.nets:build"
    assert task.options == "--dataset digits --network package.nets:build"
    again = Task.from_dict(task.to_dict())
    assert again == DIGITS.with_network(replace(CUSTOM, folder=""))
    assert again.identity == task.identity
    baseline = task.space.baseline()
    assert (baseline.family, baseline.depth, baseline.width) == ("package.nets:build", 3, 8)


def test_a_network_that_comes_trained_is_chosen_by_its_share_of_channels() -> None:
    trained = replace(CUSTOM, max_depth=1, weights_sha256="2" * 64, checkpoint="/here/net.pt")
    task = DIGITS.with_network(trained).with_training("none")
    baseline = task.space.baseline()
    assert (baseline.family, baseline.depth, baseline.width) == ("package.nets:build/8", 1, 8)
    assert {one.width for one in task.space.networks()} == set(range(1, 9))
    whole = DIGITS.with_network(replace(trained, min_width=8)).space
    assert whole.baseline() == baseline
    assert {one.width for one in whole.networks()} == {8}
    assert Task.from_dict(task.to_dict()) == replace(task, network=replace(trained, folder=""))
    assert task.words == "digits, package.nets:build, without training"
    assert task.options == "--dataset digits --network package.nets:build --checkpoint /here/net.pt --train none"
    given = replace(task, network=replace(trained, path="package.nets.Net", checkpoint=None))
    assert given.options == "--dataset digits --train none"  # no option gives a Python object


def test_the_identity_of_a_task_depends_on_its_network_and_not_on_where_that_is() -> None:
    task = DIGITS.with_network(CUSTOM)
    changes: list[dict[str, Any]] = [
        {"path": "nets:build"},
        {"max_depth": 1},
        {"max_width": 1},
        {"fingerprint": "1" * 64},
        {"min_width": 8},
        {"weights_sha256": "1" * 64},
    ]
    for change in changes:
        assert DIGITS.with_network(replace(CUSTOM, **change)).identity != task.identity
    elsewhere = replace(CUSTOM, folder="/elsewhere", checkpoint="/elsewhere/weights.pt")
    assert DIGITS.with_network(elsewhere).identity == task.identity


def test_a_task_of_other_images_carries_their_digest() -> None:
    task = task_of(FLOWERS)
    assert task.identity == "flowers@0123456789abcdef"
    assert task.options == "--dataset flowers@0123456789abcdef"
    assert Task.from_dict(task.to_dict()) == task
    assert task_of(replace(FLOWERS, digest="1" * 64)).identity != task.identity
    renamed = replace(FLOWERS, class_names=("a", "b", "c"), location=None)
    assert task_of(renamed).identity == task.identity  # the same images


def test_a_task_says_how_it_is_asked_for_again() -> None:
    recipe = Recipe(epochs=3, optimizer="sgd", learning_rate=0.1, label_smoothing=0.1, prune_steps=2)
    task = replace(DIGITS, from_scratch=True).with_recipe(recipe)
    assert task.options == (
        "--dataset digits --from-scratch --epochs 3 --learning-rate 0.1 --recipe optimizer=sgd "
        "--recipe label_smoothing=0.1 --recipe prune_steps=2"
    )
    assert Task.from_dict(task.to_dict()) == task
    assert replace(DIGITS, from_scratch=True).identity != DIGITS.identity


def test_photographs_that_are_built_in_are_normalised_and_networks_of_ones_own_are_not() -> None:
    cifar = find_task("cifar10")
    assert cifar.mean
    assert cifar.std
    assert (cifar.identity, cifar.options) == ("cifar10", "--dataset cifar10")
    own = cifar.with_network(CUSTOM)
    assert (own.mean, own.std, own.begins_trained) == ((), (), False)
    assert own.effort == effort_for(45_000)
    assert "mean" not in own.options
    other = replace(cifar, mean=(0.5, 0.5, 0.5))
    assert other.identity != cifar.identity
    assert "--mean 0.5,0.5,0.5" in other.options
    assert Task.from_dict(other.to_dict()) == other


def test_all_begin_with_one_baseline_where_training_it_takes_an_hour() -> None:
    assert {name for name in task_names() if find_task(name).begins_trained} == {"cifar10", "cifar100", "svhn"}
    assert DIGITS.with_network(replace(CUSTOM, weights_sha256="0")).with_training("finetune").begins_trained


def test_networks_are_derived_from_the_largest_of_their_family() -> None:
    assert DIGITS.start_of(("lenet", 1, 2)) == ("lenet", 3, 8)
    scratch = DIGITS.with_network(CUSTOM)
    assert scratch.start_of(("package.nets:build", 1, 2)) == ("package.nets:build", 1, 2)
    trained = DIGITS.with_network(replace(CUSTOM, max_depth=1, weights_sha256="0")).with_training("finetune")
    assert trained.start_of(("package.nets:build/8", 1, 2)) == ("package.nets:build/8", 1, 8)


CHANGES: list[dict[str, Any]] = [
    {"metric": "balanced-accuracy"},
    {"mean": (0.5, 0.5, 0.5)},
    {"std": (0.5, 0.5, 0.5)},
    {"network": CUSTOM},
]


def test_all_that_changes_results_changes_the_identity() -> None:
    task = task_of(FLOWERS)
    changed = [replace(task, **change) for change in CHANGES]
    trainings: tuple[Train, ...] = ("none", "finetune")
    changed = [*(task.with_training(train) for train in trainings), *changed]
    changed += [
        task.with_recipe(recipe)
        for recipe in (
            Recipe(epochs=3),
            Recipe(learning_rate=0.1),
            Recipe(batch_size=7),
            Recipe(augment="crop-flip"),
            Recipe(pruning="uniform"),
            Recipe(weight_decay=1e-3),
        )
    ]
    assert len({task.identity, *(one.identity for one in changed)}) == len(changed) + 1
    for one in changed[:5] + changed[6:]:
        again = Task.from_dict(one.to_dict())
        assert again == one
        assert again.identity == one.identity


def test_what_is_computed_differently_by_now_changes_the_identity_of_the_tasks_concerned_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = task_of(FLOWERS)
    custom, balanced = replace(task, network=CUSTOM), replace(task, metric="balanced-accuracy")
    tasks = [task, custom, custom.with_training("none"), balanced, balanced.with_training("finetune")]
    before = [one.identity for one in tasks]
    for name, changed in (("RETRAINING_VERSION", custom), ("_FOLDS_VERSION", balanced)):
        with monkeypatch.context() as patch:
            patch.setattr(f"search.space.task.{name}", 99)
            now = [one.identity for one in tasks]
        assert [one for one, old, new in zip(tasks, before, now, strict=True) if old != new] == [changed]


def test_networks_that_come_trained_are_trained_by_the_rule_for_their_images_whatever_the_data_set() -> None:
    """With a recipe, which is of fine-tuning."""
    for task in (DIGITS, task_of(FLOWERS)):
        sizes = split_sizes(task.dataset.counts, trained=True)
        tuned = task.with_training("finetune")
        assert tuned.effort == effort_for(sizes.train, trained=True)
        assert task.with_training("scratch") == task
        changed = tuned.with_recipe(Recipe(epochs=2, learning_rate=1e-5))
        assert changed.effort.prune_epochs == pytest.approx(2)
        assert changed.effort.prune_learning_rate == pytest.approx(1e-5)


def test_images_are_clean_if_they_are_not_cut_from_those_of_training() -> None:
    separate = replace(DIGITS, dataset=replace(DIGITS.dataset, counts={"train": 90, "validation": 10}))
    assert DIGITS.is_clean  # nothing has trained its networks before
    assert not DIGITS.with_training("none").is_clean
    assert not DIGITS.with_training("finetune").is_clean
    assert separate.with_training("none").is_clean


def test_the_networks_of_a_task_suit_its_images() -> None:
    def families(channels: int, height: int, width: int, images: int = 20_000) -> tuple[str, ...]:
        shown = replace(FLOWERS, image_shape=(channels, height, width), counts={"train": images, "test": 100})
        return task_of(shown).space.families

    assert families(1, 40, 40) == ("mlp", "lenet")
    assert families(3, 40, 48) == ("lenet", "resnet", "vgg")
    assert families(3, 40, 48, images=300) == ("mlp", "lenet")
    assert families(3, 7, 48) == ("lenet", "resnet")
    assert families(1, 3, 48) == ("mlp",)
    assert families(3, 2, 2) == ("mlp",)


def _sums(family: str, depth: int, width: int, image_shape: tuple[int, int, int]) -> int | None:
    """The number of products in the longest sum of a network; None if it cannot be built for such images."""
    try:
        with torch.device("meta"):
            network = build_network(
                Architecture(family=family, depth=depth, width=width), image_shape=image_shape, classes=3, seed=0
            )
    except ArgumentError:
        return None
    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    return max(layer.weight[0].numel() for layer in layers)


def test_a_sum_of_so_many_products_fits_32_bits_whatever_the_multiplier() -> None:
    largest = [
        find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False).largest_product
        for name in MULTIPLIERS
    ]
    assert (2**31 - 1) // max(largest) == _MOST_PRODUCTS


@pytest.mark.parametrize(("channels", "images"), [(1, 300), (3, 300), (3, 20_000)])
@pytest.mark.parametrize(
    "size",
    [
        *((1, 1), (3, 40), (4, 4), (7, 9), (8, 8), (64, 64), (148, 148), (149, 149), (181, 181), (186, 186)),
        *((224, 224), (235, 235), (236, 236), (256, 256), (257, 257), (300, 220), (500, 500)),
        *((18, 3000), (19, 4096), (28, 1600), (28, 2400), (31, 1900)),
    ],
)
def test_all_networks_of_a_task_can_be_built_and_computed(channels: int, images: int, size: tuple[int, int]) -> None:
    shape = (channels, *size)
    task = task_of(replace(FLOWERS, image_shape=shape, counts={"train": images, "test": 100}))
    sizes = {(one.family, one.depth, one.width) for one in task.space.networks() if one.width in (1, 8)}
    sums = {one: _sums(*one, shape) for one in sizes}
    computed = {one for one, products in sums.items() if products is not None and products <= _MOST_PRODUCTS}
    try:
        check_networks(task)
    except UsageError:
        assert not [depth for depth in (1, 2, 3) for family in ("mlp", "lenet") if _is_left_in(family, depth, shape)]
        return
    assert computed == sizes
    ordinary = ("lenet", "resnet", "vgg") if channels > 1 and images == 20_000 else ("mlp", "lenet")
    # None is left out without need, but resnet where there is nothing to halve.
    for family in set(ordinary) - set(task.space.families) - {"resnet"}:
        assert not _is_left_in(family, 3, shape)


def _is_left_in(family: str, depth: int, shape: tuple[int, int, int]) -> bool:
    products = _sums(family, depth, 8, shape)
    return products is not None and products <= _MOST_PRODUCTS


def test_images_that_are_too_large_for_all_networks_are_refused_with_the_largest_that_are_not() -> None:
    large = task_of(replace(FLOWERS, image_shape=(3, 300, 256)))
    with pytest.raises(
        UsageError,
        match=r"^images of 300x256 are too large for the built-in networks \(mlp, lenet\), whose sums may have at most "
        r"65,793 products; resize them to at most 235x235 with `image_size`, or give a `network` of your own that",
    ):
        check_networks(large)
    check_networks(large.with_network(CUSTOM))
    check_networks(task_of(replace(FLOWERS, image_shape=(3, 235, 235))))
    with pytest.raises(UsageError, match="resize them to at most 256x256"):
        check_networks(task_of(replace(FLOWERS, image_shape=(1, 257, 300))))
    check_networks(task_of(replace(FLOWERS, image_shape=(1, 256, 256))))
    check_networks(task_of(replace(FLOWERS, image_shape=(3, 500, 500), counts={"train": 20_000})))  # of resnet and vgg


def test_an_unknown_data_set() -> None:
    with pytest.raises(UnknownNameError, match="unknown dataset 'digit'; did you mean 'digits'"):
        find_task("digit")
