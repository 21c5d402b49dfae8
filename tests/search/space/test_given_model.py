"""Networks that are given as Python objects."""

import copy
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import approx
from search.errors import UsageError
from search.space.given_model import copied_model, model_path


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.1))


def test_a_network_is_copied_and_not_changed() -> None:
    model = Net().double().train()
    model[1].weight.grad = torch.ones(10, 64, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    copied = copied_model(model)
    assert not copied.training
    assert copied.get_parameter("1.weight").dtype == torch.float32
    with torch.no_grad():
        copied.get_parameter("1.weight").zero_()
    assert model.training
    assert model[2].training
    assert model[1].weight.dtype == torch.float64
    assert model[1].weight.grad is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_what_wraps_a_network_is_left_out() -> None:
    model = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = [nn.DataParallel(model), torch.compile(model), torch.compile(nn.DataParallel(model))]
    for one in wrapped:
        assert isinstance(one, nn.Module)
        copied = copied_model(one)
        assert type(copied) is Net
        assert copied is not model
        assert copied.state_dict().keys() == model.state_dict().keys()


def test_a_network_is_called_by_its_class() -> None:
    assert model_path(Net()) == f"{__name__}.Net"
    assert model_path(nn.Sequential()) == "torch.nn.modules.container.Sequential"
    long = type("N" * 400, (Net,), {})
    assert model_path(long()) == "N" * 300


def converted() -> nn.Module:
    return approx.approximate(Net(), approx.LayerApproximation(), calibration_data=torch.ones(1, 1, 8, 8))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return nn.Sequential(torch.jit.script(nn.Linear(64, 10)))


def uncopied() -> nn.Module:
    model = Net()
    vars(model)["lock"] = threading.Lock()
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "nets:build",
            "`model` must be a torch.nn.Module, got a value of type str; give the import path of a function",
        ),
        (Path("net.pt"), r"`model` must be a torch\.nn\.Module, got a value of type PosixPath$"),
        (Net, "`model` must be a torch.nn.Module, got the class Net; give a network of it"),
        (scripted(), "`model` is TorchScript, which cannot be converted; give the torch.nn.Module it was made from"),
        (converted(), r"`model` was converted by approx\.approximate already; give the network as it was before"),
        (nn.Sequential(nn.LazyLinear(10)), "`model` has lazy layers, which have no weights yet; run it on a batch"),
        (nn.Linear(64, 10, device="meta"), "`model` has no values in weight, which is on the meta device; load its"),
        (uncopied(), "`model` cannot be copied, because something that it holds cannot: TypeError: cannot pickle"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_what_to_do(model: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        copied_model(model)
