"""The tasks of the built-in data sets: their networks, from the smallest to the published one, and their recipes.

`python -m benchmarks.recipes` measures what the recipes reach. Photographs are normalised by mean and standard
deviation of their training images; digits and clothes are not, so that their background stays zero, as circuits like
it.
"""

from __future__ import annotations

from dataclasses import dataclass

from search.space.effort import Effort
from search.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltInTask:
    """What suits a built-in data set.

    Attributes:
        space: The space, whose baseline is the published network.
        effort: The standard effort of an evaluation.
        mean: Mean of each channel of the training images; empty if they are not normalised.
        std: Standard deviation of each channel.
        baseline_is_fixed: Whether all searches and fresh runs begin with one trained baseline, because training it
            takes an hour.
    """

    space: SearchSpace
    effort: Effort
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    baseline_is_fixed: bool = False


def _of_gray(*, train_epochs: float) -> BuiltInTask:
    return BuiltInTask(
        space=SearchSpace(families=("mlp", "lenet"), max_depth=3, max_width=6),  # LeNet-5
        effort=Effort(
            train_epochs=train_epochs,
            derive_epochs=2,
            prune_epochs=2,
            approximate_epochs=0.5,
            batch_size=128,
            learning_rate=0.1,
            derive_learning_rate=0.1,
            prune_learning_rate=0.05,
            approximate_learning_rate=2e-3,
            chips=3,
            optimizer="sgd",
            warm_up=0.2,
            weight_decay=5e-4,
            label_smoothing=0.1,
        ),
    )


def _of_photographs(mean: tuple[float, ...], std: tuple[float, ...], *, mirrored: bool = True) -> BuiltInTask:
    return BuiltInTask(
        space=SearchSpace(families=("resnet",), max_depth=3, max_width=16, width=range(4, 17, 2)),  # ResNet-20
        effort=Effort(
            train_epochs=60,
            derive_epochs=4,
            prune_epochs=2,
            approximate_epochs=0.5,
            batch_size=128,
            learning_rate=0.2,
            derive_learning_rate=0.1,
            prune_learning_rate=0.05,
            approximate_learning_rate=5e-4,
            chips=3,
            optimizer="sgd",
            warm_up=0.2,
            weight_decay=5e-4,
            label_smoothing=0.1,
            augmentation="crop-flip" if mirrored else "none",
        ),
        mean=mean,
        std=std,
        baseline_is_fixed=True,
    )


BUILT_IN_TASKS = {
    "digits": BuiltInTask(
        space=SearchSpace(families=("lenet", "mlp"), max_depth=3, max_width=8),
        effort=Effort(
            train_epochs=40,
            derive_epochs=20,
            prune_epochs=10,
            approximate_epochs=3,
            batch_size=32,
            learning_rate=3e-3,
            derive_learning_rate=1e-2,
            prune_learning_rate=1e-3,
            approximate_learning_rate=5e-3,
            chips=5,
        ),
    ),
    "mnist": _of_gray(train_epochs=12),
    "fashion-mnist": _of_gray(train_epochs=30),
    "cifar10": _of_photographs((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "svhn": _of_photographs((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), mirrored=False),
    "cifar100": _of_photographs((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
