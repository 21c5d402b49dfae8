import pytest
import torch

from approx import MAX_DEPTH, MAX_WIDTH, Architecture, build_network, family_names, trace
from approx.errors import ArgumentError, UnknownNameError


@pytest.mark.parametrize("family", family_names())
@pytest.mark.parametrize("depth", [1, MAX_DEPTH])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_every_network_classifies(family: str, depth: int, shape: tuple[int, int, int]) -> None:
    network = build_network(Architecture(family=family, depth=depth, width=2), image_shape=shape, classes=7, seed=0)
    assert network(torch.rand(3, *shape)).shape == (3, 7)


@pytest.mark.parametrize("family", family_names())
def test_wider_is_more_work(family: str) -> None:
    def macs(width: int) -> int:
        architecture = Architecture(family=family, depth=2, width=width)
        network = build_network(architecture, image_shape=(1, 28, 28), classes=10, seed=0)
        return sum(s.positions * s.inner * s.outputs for s in trace(network, torch.zeros(1, 1, 28, 28)))

    work = [macs(width) for width in range(1, MAX_WIDTH + 1)]
    assert work == sorted(set(work))


def test_weights_come_from_the_seed_alone() -> None:
    architecture = Architecture(family="mlp", depth=1, width=1)
    before = torch.get_rng_state()
    one, same, other = (build_network(architecture, image_shape=(1, 4, 4), classes=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(next(one.parameters()), next(same.parameters()))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_bad_architectures_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown network family 'lennet'; did you mean 'lenet'"):
        build_network(Architecture(family="lennet", depth=1, width=1), image_shape=(1, 8, 8), classes=2, seed=0)
    with pytest.raises(ArgumentError, match="width must be between 1 and 8, got 9"):
        build_network(Architecture(family="mlp", depth=1, width=9), image_shape=(1, 8, 8), classes=2, seed=0)
    with pytest.raises(ArgumentError, match="images of 4x4 cannot be halved 3 times"):
        build_network(Architecture(family="lenet", depth=3, width=1), image_shape=(1, 4, 4), classes=2, seed=0)


def test_trace_of_a_small_network_by_hand() -> None:
    network = build_network(Architecture(family="lenet", depth=1, width=1), image_shape=(1, 8, 8), classes=10, seed=0)
    found = [(s.positions, s.inner, s.outputs, s.input_values) for s in trace(network, torch.zeros(1, 1, 8, 8))]
    # 3x3 convolution to 2 channels on 8x8, pooled to 4x4, a hidden layer of 16, 10 classes.
    assert found == [(64, 9, 2, 64), (1, 32, 16, 32), (1, 16, 10, 16)]
