"""Networks whose names, layers and weights are the same, and which compute something else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.space.computation import computation_digest

SHAPE = (1, 6, 6)


class Scaled(nn.Module):
    """A network that does something to its images first, with a value that it holds."""

    def __init__(self, value: Any, use: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
        self.value = value
        self.use = use

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(self.use(images, self.value))
        return found


class Buffered(Scaled):
    scale: Tensor

    def __init__(self, value: float) -> None:
        super().__init__(None, lambda images, value: images)
        self.register_buffer("scale", torch.tensor(value), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * self.scale)


def scaled(value: Any) -> nn.Module:
    return Scaled(value, lambda images, value: images * value)


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "a number": (lambda: scaled(1.0), lambda: scaled(0.2)),
    "a tensor": (lambda: scaled(torch.tensor(1.0)), lambda: scaled(torch.tensor(0.2))),
    "a buffer that is not stored": (lambda: Buffered(1.0), lambda: Buffered(0.2)),
    "a function": (lambda: Scaled(None, lambda x, _: x.relu()), lambda: Scaled(None, lambda x, _: x.tanh())),
    "a rate of dropout": (
        lambda: Scaled(0.1, lambda x, rate: F.dropout(x, rate, training=True)),
        lambda: Scaled(0.2, lambda x, rate: F.dropout(x, rate, training=True)),
    ),
    "an axis": (lambda: Scaled(2, lambda x, axis: x.flip(axis)), lambda: Scaled(3, lambda x, axis: x.flip(axis))),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_what_a_network_does_tells_it_apart(kind: str) -> None:
    one, other = PAIRS[kind]
    assert computation_digest(one(), SHAPE) == computation_digest(one(), SHAPE)
    assert computation_digest(one(), SHAPE) != computation_digest(other(), SHAPE)


def test_weights_do_not_matter_and_nothing_changes() -> None:
    network = scaled(1.0)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before = torch.random.get_rng_state()
    found = computation_digest(network, SHAPE)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    assert computation_digest(network, SHAPE) == found


def test_training_counts_too() -> None:
    class Trains(nn.Module):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.layer, self.rate = nn.Linear(36, 3), rate

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.layer(F.dropout(images.flatten(1), self.rate, self.training))
            return found

    assert computation_digest(Trains(0.1), SHAPE) != computation_digest(Trains(0.2), SHAPE)
