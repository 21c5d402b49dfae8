from dataclasses import fields, replace
from typing import Any

import pytest

from search.errors import UsageError
from search.space.effort import Effort, Recipe, effort_for


def steps(images: int, epochs: float, effort: Effort) -> float:
    return epochs * -(-images // effort.batch_size)


@pytest.mark.parametrize("images", [2_000, 9_999, 10_000, 54_000, 150_000])
def test_training_takes_about_the_same_number_of_steps_whatever_the_number_of_images(images: int) -> None:
    effort = effort_for(images)
    assert steps(images, effort.train_epochs, effort) == pytest.approx(1300)
    assert steps(images, effort.prune_epochs, effort) == pytest.approx(350)
    assert steps(images, effort.approximate_epochs, effort) == pytest.approx(200)


def test_few_images_are_not_seen_more_than_a_hundred_times_and_many_at_least_once() -> None:
    assert effort_for(40).train_epochs == 100
    assert effort_for(40).prune_epochs < 100 * 0.3
    assert effort_for(2_000_000).train_epochs == 1
    assert effort_for(2_000_000).prune_epochs < 0.1


def test_a_recipe_changes_all_stages_by_the_same_factor() -> None:
    effort = effort_for(54_000)
    changed = effort.with_recipe(Recipe(epochs=2 * effort.train_epochs, learning_rate=3e-3), trained=False)
    assert changed.train_epochs / effort.train_epochs == pytest.approx(2)
    assert changed.derive_epochs / effort.derive_epochs == pytest.approx(2)
    assert changed.prune_epochs / effort.prune_epochs == pytest.approx(2)
    assert changed.approximate_epochs / effort.approximate_epochs == pytest.approx(2)
    assert changed.learning_rate == pytest.approx(3e-3)
    assert changed.approximate_learning_rate == pytest.approx(3e-3)
    fine = effort.with_recipe(Recipe(epochs=4, learning_rate=1e-5), trained=True)
    assert fine.derive_epochs == pytest.approx(4)
    assert fine.derive_learning_rate == pytest.approx(1e-5)
    other = effort.with_recipe(Recipe(batch_size=7, augment="crop-flip"), trained=False)
    assert other == replace(effort, batch_size=7, augmentation="crop-flip")


def test_another_optimizer_needs_a_rate_of_its_own_and_leaves_that_on_codes() -> None:
    effort = effort_for(54_000)
    with pytest.raises(UsageError, match="`optimizer` sgd needs a `learning_rate`; that of adam does not suit it"):
        effort.with_recipe(Recipe(optimizer="sgd"), trained=False)
    changed = effort.with_recipe(Recipe(optimizer="sgd", learning_rate=0.1), trained=False)
    assert (changed.optimizer, changed.learning_rate) == ("sgd", 0.1)
    assert changed.derive_learning_rate == pytest.approx(100 * effort.derive_learning_rate)
    assert changed.approximate_learning_rate == effort.approximate_learning_rate
    assert effort.with_recipe(Recipe(optimizer="adam"), trained=False) == effort


def test_every_key_of_a_recipe_is_known_and_changes_the_effort() -> None:
    effort = effort_for(54_000)
    values: dict[str, Any] = {
        "epochs": 7,
        "learning_rate": 0.5,
        "batch_size": 7,
        "augment": "crop-flip",
        "optimizer": "sgd",
        "warm_up": 0.5,
        "weight_decay": 0.5,
        "label_smoothing": 0.5,
        "pruning": "uniform",
        "prune_steps": 7,
    }
    assert values.keys() == {field.name for field in fields(Recipe)}
    for name, value in values.items():
        given = {name: value, **({"learning_rate": 0.5} if name == "optimizer" else {})}
        recipe = Recipe.of(given)
        assert recipe.to_dict() == given
        assert effort.with_recipe(recipe, trained=False) != effort
        assert recipe.trains_otherwise == (name not in ("pruning", "prune_steps"))


def test_a_recipe_with_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"unknown key 'lerning_rate'; did you mean 'learning_rate'\? Keys are"):
        Recipe.of({"lerning_rate": 0.1})
    with pytest.raises(UsageError, match="unknown key 'xyz'; keys are epochs, learning_rate, batch_size, augment, opt"):
        Recipe.of({"xyz": 1})
    with pytest.raises(UsageError, match="`recipe` must be a mapping from names to values, got 'sgd'"):
        Recipe.of("sgd")


def test_networks_that_come_trained_have_as_many_steps_and_no_higher_rates() -> None:
    for images in (2_000, 54_000):
        scratch, tuned = effort_for(images), effort_for(images, trained=True)
        for rate in ("approximate_learning_rate", "derive_learning_rate"):
            assert getattr(tuned, rate) < getattr(scratch, rate)
            tuned = replace(tuned, **{rate: getattr(scratch, rate)})
        assert tuned == scratch


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a number above 0, got 0"),
        ({"epochs": float("nan")}, "`epochs` must be a number above 0, got nan"),
        ({"epochs": float("inf")}, "`epochs` must be a number above 0, got inf"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number above 0, got 'fast'"),
        ({"learning_rate": True}, "`learning_rate` must be a number above 0, got True"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, got 0"),
        ({"batch_size": 1.5}, "`batch_size` must be a whole number of at least 1, got 1.5"),
        ({"augment": "mixup"}, "`augment` must be one of none, crop-flip, got 'mixup'"),
        ({"optimizer": "lion"}, "`optimizer` must be one of adam, sgd, got 'lion'"),
        ({"pruning": "none"}, "`pruning` must be one of global, uniform, got 'none'"),
        ({"prune_steps": 0}, "`prune_steps` must be a whole number of at least 1, got 0"),
        ({"weight_decay": -1}, "`weight_decay` must be a number of at least 0, got -1"),
        ({"warm_up": 1}, "`warm_up` must be a number of at least 0 and below 1, got 1"),
        ({"label_smoothing": "some"}, "`label_smoothing` must be a number of at least 0 and below 1, got 'some'"),
    ],
)
def test_a_recipe_that_is_none(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**values)  # type: ignore[arg-type]
