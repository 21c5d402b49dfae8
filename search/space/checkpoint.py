"""The weights of a network from a file of tensors. Nothing else is read from it: a pickle could run any code.

    .safetensors              tensors by name
    .pt .pth .bin .ckpt       of `torch.save`: tensors by name, or a dictionary of a training run that has one of these

Names may begin with what wrappers add, such as `module.` of DataParallel and `_orig_mod.` of torch.compile.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from search.errors import UsageError

_PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_SAVE = "save the weights alone: torch.save(model.state_dict(), FILE)"
_SHOWN = 3  # names in a message


def load_weights(model: nn.Module, checkpoint: str, *, network: str, classes: int) -> None:
    """Load the weights of a file into a network, in place; half precision becomes that of the network.

    Args:
        model: The network.
        checkpoint: Path of the file.
        network: What the network is called in messages.
        classes: Number of its classes, for messages.

    Raises:
        UsageError: If the file cannot be read, has anything but tensors, or its tensors do not fit the network: in
            names, but for those of one tensor that has several, in shapes, or by codes where the network has numbers.
    """
    tensors = _without_prefix(read_tensors(Path(checkpoint)), model)
    given = f"the weights of `checkpoint` {checkpoint} do not fit `network` {network}"
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    wrong = [name for name, value in tensors.items() if name in own and value.shape != own[name].shape]
    if wrong:
        shapes = [
            f"{name} has shape {tuple(tensors[name].shape)} in the file and {tuple(own[name].shape)} in the network"
            for name in wrong
        ]
        raise UsageError(f"{given}: {_some(shapes, '; ')}{_classes_hint(tensors, own, wrong, classes)}")
    coded = [
        f"{name} is of type {_type(value)} in the file and {_type(own[name])} in the network"
        for name, value in tensors.items()
        if name in own and not _converts(value, own[name])
    ]
    if coded:
        raise UsageError(f"{given}: {_some(coded, '; ')}; give floating-point weights, such as before any quantisation")
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except Exception as error:  # from the network's own code
        raise UsageError(f"{given}: {' '.join(str(error).split())}") from error
    there = [own[name] for name in tensors if name in own]
    missing = [name for name in missing if name not in own or not any(_holds(one, own[name]) for one in there)]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of its {len(own)} tensors are not in the file: {_some(missing)}")
    if unexpected:
        parts.append(f"{len(unexpected)} of the file's {len(tensors)} are not in the network: {_some(unexpected)}")
    if parts:
        raise UsageError(f"{given}: {'; '.join(parts)}; give the weights of the network that the function builds")
    check_finite(model, f"`checkpoint` {checkpoint}")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read tensors by name from a file, on the CPU.

    Raises:
        UsageError: If there is no such file, it cannot be read, or it has anything but the weights of one network.
    """
    given = f"`checkpoint` {file}"
    ending = file.suffix.lower()
    if ending != ".safetensors" and ending not in _PICKLED:
        raise UsageError(f"`checkpoint` must be a file of weights, .safetensors, {', '.join(_PICKLED)}, got {file}")
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise UsageError(f"{given} {what}; give the file of the network's weights")
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise UsageError(f"{given} cannot be read: {error.strerror or error}") from None
    try:
        if ending == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError:
        raise UsageError(f"{given} cannot be read: it is damaged, or no .safetensors file; save it again") from None
    except Exception:  # torch raises whatever its readers do, such as OSError beyond the end of a truncated file
        raise UsageError(f"{given} {_why_not_read(file)}; {_SAVE}") from None
    return _weights_in(content, given)


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of the names, types, shapes and values of a network's state: the same for any file format."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_finite(model: nn.Module, given: str) -> None:
    """Reject weights that are not finite numbers.

    Args:
        model: The network.
        given: What has the weights, in messages.

    Raises:
        UsageError: If it has such weights.
    """
    state = model.state_dict()
    wrong = [name for name, value in state.items() if isinstance(value, Tensor) and not value.isfinite().all()]
    if wrong:
        raise UsageError(f"{given} has values that are no finite numbers in {_some(wrong)}; give weights of a good run")


def _weights_in(content: object, given: str) -> dict[str, Tensor]:
    """Return the tensors by name that a file holds, alone or under one key of a dictionary."""
    if _is_state(content):
        return dict(content)
    if not isinstance(content, Mapping):
        raise UsageError(f"{given} holds {_kind(content)}, not tensors by name; {_SAVE}")
    states: dict[str, Mapping[str, Tensor]] = {str(key): one for key, one in content.items() if _is_state(one)}
    if not content:
        raise UsageError(f"{given} holds an empty dictionary, no tensors; {_SAVE}")
    if not states:
        raise UsageError(
            f"{given} holds no tensors by name; its keys are {_some([str(key) for key in content])}; {_SAVE}"
        )
    if len(states) > 1:
        raise UsageError(f"{given} holds the weights of several networks, {', '.join(states)}; {_SAVE}")
    return dict(*states.values())


def _is_state(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether it is tensors by name."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _converts(value: Tensor, own: Tensor) -> bool:
    """Whether a tensor of a file has numbers that the type of a network's one can stand for."""
    if own.is_floating_point():
        return value.is_floating_point()
    return own.is_complex() or not value.is_complex()


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _holds(one: Tensor, other: Tensor) -> bool:
    """Whether a tensor has all the memory of another, as where layers share weights, so that loading it loads both."""
    if one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr() or not one.is_contiguous():
        return False
    (first, last), (start, end) = _extent(one), _extent(other)
    return first <= start and end <= last


def _extent(value: Tensor) -> tuple[int, int]:
    """The memory from the first value of a tensor to the end of its last one."""
    steps = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    return value.data_ptr(), value.data_ptr() + (steps + 1) * value.element_size()


def _kind(content: object) -> str:
    return "one tensor" if isinstance(content, Tensor) else f"a value of type {type(content).__name__}"


def _without_prefix(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return tensors without what all their names begin with and none of the network's does."""
    own = {name.partition(".")[0] for name in model.state_dict()}
    while len(first := {name.partition(".")[0] for name in tensors}) == 1 and not first & own:
        shorter = {name.partition(".")[2]: value for name, value in tensors.items()}
        if "" in shorter:
            break
        tensors = shorter
    return tensors


def _classes_hint(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], wrong: Sequence[str], classes: int) -> str:
    """Say that the last layer has other classes, if that is all."""
    outputs = {tensors[name].shape[:1] for name in wrong}
    rest_fits = all(tensors[name].shape[1:] == own[name].shape[1:] for name in wrong)
    if len(outputs) == 1 and rest_fits and all(own[name].shape[:1] == (classes,) for name in wrong):
        return f"; it was trained for {next(iter(outputs))[0]} classes, and the images have {classes}"
    return "; give the weights of the network that the function builds"


def _why_not_read(file: Path) -> str:
    """Say what a file holds that torch does not read as tensors, without running anything in it."""
    names: list[str] = []
    with suppress(Exception):  # only archives of newer versions of torch can be looked into
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    if any(name.startswith("torch.nn.modules") for name in names):
        return "holds a whole model, whose pickle could run any code, so that only tensors are read"
    if names:
        return (
            f"holds Python objects beside tensors, such as {names[0]}, which are not read, as they could run any code"
        )
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            return "holds TorchScript, not weights"
    with file.open("rb") as opened:
        if opened.read(1) == b"\x80":  # how pickles begin
            return "is damaged, or a pickle of more than tensors, which is not read, as it could run any code"
    return "cannot be read: torch.save did not write it, or it is damaged"


def _some(texts: Sequence[str], between: str = ", ") -> str:
    left_out = len(texts) - _SHOWN
    return between.join(texts[:_SHOWN]) + (f" and {left_out} more" if left_out > 0 else "")
