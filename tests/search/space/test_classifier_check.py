"""What is said of networks that do not fit the images."""

import threading

import pytest
import torch
from torch import Tensor, nn

from search.errors import UsageError
from search.space.classifier_check import check_approximable, check_scores


def flat(values: int, classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(values, classes))


def convolutional(channels: int, values: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(values, 10))


class Strict(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("Wrong\nheight")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            convolutional(3, 144),
            "it does not fit images of 1x8x8 (channels, height, width): its first layer '0' takes 3 channels and gets "
            "1; give images of 3 channels, or a network whose first layer takes 1",
        ),
        (
            convolutional(1, 4 * 26 * 26),
            "it does not fit images of 1x8x8 (channels, height, width): its layer '3' takes 2704 values and gets 144; "
            "resize the images with `image_size`, or give a network that is made for them",
        ),
        (
            flat(784),
            "it does not fit images of 1x8x8 (channels, height, width): its first layer '1' takes 784 values and gets "
            "64; resize the images with `image_size`, or give a network that is made for them",
        ),
        (
            nn.Linear(7, 10),
            "it does not fit images of 1x8x8 (channels, height, width): it takes 7 values and gets 8; resize the "
            "images with `image_size`, or give a network that is made for them",
        ),
        (Strict(), "it fails on images of 1x8x8 (channels, height, width): AssertionError: Wrong height"),
        (
            nn.Sequential(nn.Conv2d(1, 4, 9), nn.Flatten()),
            "it fails on images of 1x8x8 (channels, height, width): RuntimeError: Calculated padded input size per "
            "channel: (8 x 8). Kernel size: (9 x 9). Kernel size can't be greater than actual input size",
        ),
        (
            flat(64, classes=1000),
            "it: its output for one image must be a tensor of shape (1, 10), a score for each of 10 classes, got shape "
            "(1, 1000)",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.LSTM(64, 20)),
            "it: its output for one image must be a tensor of shape (1, 10), a score for each of 10 classes, got shape "
            "(1, 20)",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_what_it_takes_and_gets(model: nn.Module, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_scores(model, "it", image_shape=(1, 8, 8), classes=10)
    assert str(caught.value) == message


def test_one_channel_is_one() -> None:
    with pytest.raises(UsageError, match="takes 1 channel and gets 3; give images of 1 channel, or"):
        check_scores(convolutional(1, 144), "it", image_shape=(3, 8, 8), classes=10)


def test_a_check_leaves_nothing_behind_in_a_network() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    check_scores(model, "it", image_shape=(1, 8, 8), classes=10)
    assert not model[1]._forward_pre_hooks
    assert not model.training
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    check_approximable(model, "it", image_shape=(1, 8, 8))
    assert isinstance(model[1], nn.Linear)


def test_a_network_that_cannot_be_approximated() -> None:
    with pytest.raises(UsageError, match=r"^it cannot be approximated: the model has no Conv1d, Conv2d"):
        check_approximable(nn.Flatten(), "it", image_shape=(1, 8, 8))
    copied = flat(64)
    vars(copied)["lock"] = threading.Lock()
    with pytest.raises(UsageError, match=r"^it cannot be approximated: the network cannot be copied"):
        check_approximable(copied, "it", image_shape=(1, 8, 8))
