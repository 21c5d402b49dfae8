"""What a network computes, beside the values of its parameters: a digest of the operations that it runs.

Names, layers and source files do not tell all networks apart: what a module multiplies by may be a plain attribute, and
what it calls may be a function of any other module.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from approx.copying import copied
from search.content_hash import content_hash

_IMAGES = 2  # the fewest on which BatchNorm trains


def computation_digest(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """Return a digest of the operations that a network runs on noise, in evaluation and in training.

    It covers their order, their shapes and numbers, and the values of all tensors that are neither parameters nor
    computed.

    Args:
        model: The network; it is not changed.
        image_shape: Channels, height and width of an image.
    """
    return content_hash([_operations(model, image_shape, training=training) for training in (False, True)])


def _operations(model: nn.Module, image_shape: tuple[int, int, int], *, training: bool) -> list[Any]:
    run = copied(model).train(training)
    images = torch.rand(_IMAGES, *image_shape, generator=torch.Generator().manual_seed(0))
    recorder = _Recorder(run, images)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), recorder:
        torch.manual_seed(0)
        with suppress(Exception):  # of the network's own code: what ran until then tells enough
            run(images)
    return recorder.operations


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records operations.

    Args:
        model: The network that runs them.
        images: What it gets.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Any] = []
        # Storage -> what it is called. Tensors are kept, so that no other one reuses their storage.
        self._known = {_place(parameter): name for name, parameter in model.named_parameters()}
        self._kept = [images]
        self._known[_place(images)] = "images"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves, form = tree_flatten((args, kwargs))
        self.operations.append([str(func), str(form), [self._content(leaf) for leaf in leaves]])
        result = func(*args, **kwargs)
        for leaf in tree_flatten(result)[0]:
            if isinstance(leaf, Tensor) and _place(leaf) not in self._known:
                self._known[_place(leaf)] = f"result {len(self.operations)}"
                self._kept.append(leaf)
        return result

    def _content(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return repr(value) if isinstance(value, bool | int | float | str | torch.dtype | None) else str(type(value))
        about = [str(value.dtype), list(value.shape)]
        if (name := self._known.get(_place(value))) is not None:
            return [*about, name]
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        return [*about, hashlib.sha256(content).hexdigest()]


def _place(tensor: Tensor) -> int:
    if tensor.layout != torch.strided or tensor.device.type == "meta" or not tensor.numel():
        return id(tensor)
    return tensor.untyped_storage().data_ptr()
