"""The kernels and versions that this installation uses."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from approx.arithmetic import native
from approx.arithmetic.convolution import integer_matmul_is_exact


def diagnose() -> dict[str, str]:
    """Return what matters for speed and results: name -> words."""
    return {
        "crosslayer": version("crosslayer"),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "truth tables": _tables(),
        "recoded operands": _products(),
    }


def _tables() -> str:
    library = native.load()
    if library is not None:
        threads = "" if library.uses_torch_threads else ", on one thread: torch before 2.10 does not share its threads"
        return f"native row tables, {library.build} build{threads}"
    reason = native.why_not_loaded()
    return f"row tables with torch alone, about four times slower than the native kernel: {reason}"


def _products() -> str:
    if native.load() is None:
        return "float products with torch"
    if integer_matmul_is_exact():
        return "8-bit integer products"
    return "native row tables: torch's 8-bit integer product is not exact on this CPU, which lacks VNNI instructions"
