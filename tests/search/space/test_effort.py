from dataclasses import replace

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
    assert changed.prune_epochs / effort.prune_epochs == pytest.approx(2)
    assert changed.approximate_epochs / effort.approximate_epochs == pytest.approx(2)
    assert changed.learning_rate == pytest.approx(3e-3)
    assert changed.approximate_learning_rate == pytest.approx(3e-3)
    fine = effort.with_recipe(Recipe(epochs=4, learning_rate=1e-5), trained=True)
    assert fine.prune_epochs == pytest.approx(4)
    assert fine.prune_learning_rate == pytest.approx(1e-5)
    other = effort.with_recipe(Recipe(batch_size=7, augment="crop-flip"), trained=False)
    assert other == replace(effort, batch_size=7, augmentation="crop-flip")


def test_networks_that_come_trained_have_as_many_steps_and_no_higher_rates() -> None:
    for images in (2_000, 54_000):
        scratch, tuned = effort_for(images), effort_for(images, trained=True)
        assert tuned == replace(scratch, approximate_learning_rate=tuned.approximate_learning_rate)
        assert tuned.approximate_learning_rate < scratch.approximate_learning_rate


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
    ],
)
def test_a_recipe_that_is_none(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**values)  # type: ignore[arg-type]
