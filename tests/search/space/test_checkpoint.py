"""Weights from files: what is read, what fits, and what is said of the rest."""

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from search.errors import UsageError
from search.space.checkpoint import check_finite, load_weights, read_tensors, weights_digest


class Net(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.norm(self.conv(images)).mean((2, 3)))
        return scores


class Executed:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def net(seed: int = 0, classes: int = 10) -> Net:
    torch.manual_seed(seed)
    return Net(classes)


def loaded(file: Path, into: nn.Module | None = None) -> dict[str, Tensor]:
    model = into or net(seed=1)
    load_weights(model, str(file), network="nets:build", classes=10)
    return model.state_dict()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def write_safetensors(state: dict[str, Tensor], file: Path) -> None:
    save_file({name: value.contiguous() for name, value in state.items()}, file)


FORMATS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "net.safetensors": write_safetensors,
    "net.pt": torch.save,
    "net.PTH": torch.save,
    "net.bin": lambda state, file: torch.save(state, file, _use_new_zipfile_serialization=False),
    "net.ckpt": lambda state, file: torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, file),
}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_the_same_in_any_format(tmp_path: Path, name: str) -> None:
    state = net().state_dict()
    FORMATS[name](state, tmp_path / name)
    assert_same(loaded(tmp_path / name), state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "ema"])
def test_weights_are_found_beside_what_else_a_training_run_keeps(tmp_path: Path, key: str) -> None:
    state = net().state_dict()
    torch.save({"epoch": 3, key: state, "best": torch.tensor(0.9), "history": [0.1]}, tmp_path / "net.pt")
    assert_same(loaded(tmp_path / "net.pt"), state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_what_wrappers_add_to_names_is_left_out(tmp_path: Path, prefix: str) -> None:
    state = net().state_dict()
    torch.save({f"{prefix}{name}": value for name, value in state.items()}, tmp_path / "net.pt")
    assert_same(loaded(tmp_path / "net.pt"), state)


def test_a_prefix_that_is_the_networks_own_stays(tmp_path: Path) -> None:
    wrapped = nn.Sequential(OrderedDict(module=net()))
    torch.save(wrapped.state_dict(), tmp_path / "net.pt")
    assert_same(loaded(tmp_path / "net.pt", nn.Sequential(OrderedDict(module=net(seed=1)))), wrapped.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in net().state_dict().items()
    }
    torch.save(state, tmp_path / "net.pt")
    found = loaded(tmp_path / "net.pt")
    assert found["fc.weight"].dtype == torch.float32
    assert torch.equal(found["fc.weight"], state["fc.weight"].float())


def test_batches_that_an_old_file_did_not_count_may_be_missing(tmp_path: Path) -> None:
    state = {name: value for name, value in net().state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "net.pt")
    assert torch.equal(loaded(tmp_path / "net.pt")["fc.weight"], state["fc.weight"])


def test_the_digest_is_of_names_shapes_types_and_values() -> None:
    model = net()
    digest = weights_digest(model)
    assert weights_digest(net()) == digest
    others = [net(seed=1), net(classes=9), net().double(), nn.Sequential(net()), net(), net()]
    with torch.no_grad():
        others[-2].get_parameter("fc.bias")[0] += 1e-6
        others[-1].get_buffer("norm.running_mean")[0] = 1
    assert len({digest, *map(weights_digest, others)}) == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_codes_are_no_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save(net().state_dict() | {"fc.weight": torch.zeros(10, 4, dtype=dtype)}, tmp_path / "net.pt")
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(
        UsageError,
        match=rf"fc\.weight is of type {kind} in the file and float32 in the network; give floating-point weights",
    ):
        loaded(tmp_path / "net.pt")


class Tied(nn.Module):
    """The second and the third layer share their weights, and the fourth a part of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.third.weight = self.second.weight
        self.last = nn.Linear(4, 2, bias=False)
        self.last.weight = nn.Parameter(self.second.weight.data[:2])


@pytest.mark.parametrize("left_out", [["third.weight", "last.weight"], ["second.weight", "last.weight"]])
def test_weights_that_layers_share_need_not_be_there_twice(tmp_path: Path, left_out: list[str]) -> None:
    torch.manual_seed(0)
    model = Tied()
    save_model(model, str(tmp_path / "net.safetensors"))
    assert len(read_tensors(tmp_path / "net.safetensors")) == 5
    state = model.state_dict()
    torch.save({name: value for name, value in state.items() if name not in left_out}, tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        assert_same(loaded(tmp_path / name, Tied()), state)


def test_weights_that_are_shared_in_part_have_to_be_there(tmp_path: Path) -> None:
    shared = ("second.weight", "third.weight")
    torch.save({name: one for name, one in Tied().state_dict().items() if name not in shared}, tmp_path / "net.pt")
    with pytest.raises(
        UsageError, match=r"2 of its 7 tensors are not in the file: second\.weight, third\.weight; give"
    ):
        loaded(tmp_path / "net.pt", Tied())


def test_missing_and_unexpected_weights_are_named(tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save({f"head.{n}" if n.startswith("fc") else n: value for n, value in state.items()}, tmp_path / "net.pt")
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path / "net.pt")
    assert str(caught.value) == (
        f"the weights of `checkpoint` {tmp_path}/net.pt do not fit `network` nets:build: 2 of its 9 tensors are not in "
        "the file: fc.weight, fc.bias; 2 of the file's 9 are not in the network: head.fc.weight, head.fc.bias; give "
        "the weights of the network that the function builds"
    )


def test_of_many_names_the_first_are_told(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(UsageError, match=r"8 of its 9 .*: conv\.weight, conv\.bias, norm\.weight and 5 more; 1 of"):
        loaded(tmp_path / "net.pt")


def test_other_shapes_are_told(tmp_path: Path) -> None:
    state = net().state_dict() | {"conv.weight": torch.zeros(4, 3, 3, 3)}
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(
        UsageError,
        match=r"conv\.weight has shape \(4, 3, 3, 3\) in the file and \(4, 1, 3, 3\) in the network; give the weights",
    ):
        loaded(tmp_path / "net.pt")


def test_a_classifier_of_other_classes_is_recognised(tmp_path: Path) -> None:
    torch.save(net(classes=1000).state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        UsageError,
        match=r"fc\.weight has shape \(1000, 4\) in the file and \(10, 4\) in the network; fc\.bias .*; it was trained "
        "for 1000 classes, and the images have 10",
    ):
        loaded(tmp_path / "net.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    state = net().state_dict()
    state["norm.running_var"][1] = value
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(UsageError, match=r"net\.pt has values that are no finite numbers in norm\.running_var; give"):
        loaded(tmp_path / "net.pt")


def test_finite_weights_pass() -> None:
    check_finite(net(), "`model`")


def test_what_a_pickle_would_run_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save({"state_dict": net().state_dict(), "run": Executed(mark)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Executed(mark)))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(UsageError, match=r"run any code; save the weights alone: torch\.save\(model\.state_dict"):
            read_tensors(tmp_path / name)
    assert not mark.exists()


def whole(file: Path) -> None:
    torch.save(net(), file)


def script(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(2, 2))), file)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (
            "net.h5",
            Path.touch,
            r"`checkpoint` must be a file of weights, \.safetensors, \.pt, \.pth, \.bin, \.ckpt, got",
        ),
        ("net.pt", lambda file: None, r"net\.pt does not exist; give the file of the network's weights"),
        ("net.pt", Path.mkdir, r"net\.pt is a folder; give the file"),
        ("net.pt", Path.touch, r"net\.pt cannot be read: torch\.save did not write it, or it is damaged"),
        (
            "net.pt",
            lambda file: file.write_text("version https://git-lfs"),
            r"net\.pt cannot be read: torch\.save did not write it",
        ),
        ("net.safetensors", whole, r"net\.safetensors cannot be read: it is damaged, or no \.safetensors file"),
        ("net.safetensors", Path.touch, r"net\.safetensors cannot be read: it is damaged"),
        ("net.pt", whole, r"net\.pt holds a whole model, whose pickle could run any code, .*; save the weights alone"),
        (
            "net.pt",
            lambda file: torch.save(net(), file, _use_new_zipfile_serialization=False),
            r"is damaged, or a pickle of more than tensors, which is not read",
        ),
        (
            "net.pt",
            lambda file: torch.save({"model": net().state_dict(), "best": np.float64(0.9)}, file),
            r"holds Python objects beside tensors, such as numpy\.\S+, which are not read",
        ),
        ("net.pt", script, r"net\.pt holds TorchScript, not weights; save the weights alone"),
        ("net.pt", lambda file: torch.save([1], file), "holds a value of type list, not tensors by name"),
        ("net.pt", lambda file: torch.save(torch.zeros(2), file), "holds one tensor, not tensors by name"),
        ("net.pt", lambda file: torch.save({}, file), r"holds an empty dictionary, no tensors; save the weights alone"),
        (
            "net.pt",
            lambda file: torch.save({"epoch": 3, "loss": torch.zeros(1)}, file),
            "holds no tensors by name; its keys are epoch, loss",
        ),
        (
            "net.pt",
            lambda file: torch.save({"model": net().state_dict(), "ema": net().state_dict()}, file),
            "holds the weights of several networks, model, ema; save the weights alone",
        ),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, name: str, write: Callable[[Path], object], message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(UsageError, match=message) as caught:
        read_tensors(tmp_path / name)
    assert str(caught.value).startswith("`checkpoint`")
    assert "\n" not in str(caught.value)


def test_a_truncated_file(tmp_path: Path) -> None:
    for name in ("net.pt", "net.bin", "net.safetensors"):
        FORMATS[name](net().state_dict() | {"more": torch.zeros(10_000)}, tmp_path / name)
        written = (tmp_path / name).read_bytes()
        for kept in (1, 100, len(written) // 2, len(written) - 1):
            (tmp_path / name).write_bytes(written[:kept])
            with pytest.raises(UsageError, match=r"cannot be read: .* damaged|is damaged, or"):
                read_tensors(tmp_path / name)
