"""Import modules that users name: those of custom networks.

Such a module may import torchvision, whose wheels on PyPI are built for CUDA. Beside a CPU build of torch their
compiled part cannot be loaded, and `import torchvision` fails because it describes operators that only this part
declares (https://github.com/pytorch/vision/issues/8985). Once they are declared, whatever does not call them works,
such as every classifier.
"""

from __future__ import annotations

import functools
import importlib
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

import torch


def import_custom_module(name: str) -> ModuleType:
    """Import a module that imports torchvision or belongs to it, whatever torch was built for.

    Args:
        name: Dotted name of the module.
    """
    _declare_torchvision_operators()
    return importlib.import_module(name)


@functools.cache
def _declare_torchvision_operators() -> None:
    """Declare the operators whose absence fails torchvision's import, unless its compiled part declares them.

    Nothing of torchvision is imported, which takes seconds and which most networks do not need.
    """
    package = find_spec("torchvision")
    if package is None:
        return
    compiled = PathFinder.find_spec("_C", package.submodule_search_locations)
    if compiled is not None and compiled.origin is not None:
        with suppress(OSError):  # it needs libraries that come with another build of torch
            # As torchvision does when it is imported; the second time nothing happens.
            torch.ops.load_library(compiled.origin)  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
